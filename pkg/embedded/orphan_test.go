package embedded

import (
	"bytes"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/schema"
)

// TestNoContentStaysThatNothingLeadsTo: what is found to go while a collection runs goes
// with its content, or stays with it until the next. No ledger would count it, and no
// run take it before the delay.
func TestNoContentStaysThatNothingLeadsTo(t *testing.T) {
	r := openInside(t, Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindQuota, Name: "team"}, Spec: &schema.Quota{Limit: new(schema.Size(1 << 20))}}})
	send := func(text string) digest.Digest {
		t.Helper()
		d := digest.FromString(text)
		w := r.ask(http.MethodPost, "dev", "/v2/team/app/blobs/uploads/", "", http.NoBody)
		at, err := url.Parse(w.Header().Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		if w = r.ask(http.MethodPut, "dev", at.Path+"?"+at.RawQuery+"&digest="+d.String(), "application/octet-stream", bytes.NewBufferString(text)); w.Code != http.StatusCreated {
			t.Fatal(w.Code, w.Body)
		}
		return d
	}
	there := func(d digest.Digest) (linked, stored bool) {
		t.Helper()
		_, linked, err := r.storage.Layer(t.Context(), "team/app", d)
		if err != nil {
			t.Fatal(err)
		}
		_, stored, err = r.storage.Blob(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		return linked, stored
	}
	first := send("sent before")
	var second digest.Digest
	yields := false
	what := collecting{
		delay: time.Hour, limited: func(string) bool { return true },
		yields: func(string, digest.Digest) bool {
			if second == "" { // while it marks
				second = send("sent meanwhile")
				yields = true
				return false
			}
			return yields
		},
	}
	if _, err := collect(t.Context(), r.storage, r.gate, what, time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]digest.Digest{"before": first, "meanwhile": second} {
		if linked, stored := there(d); linked != stored {
			t.Errorf("what was sent %s: linked %v, stored %v", name, linked, stored)
		}
	}
	if linked, _ := there(second); linked {
		t.Error("what was sent meanwhile stays")
	}
	if _, err := collect(t.Context(), r.storage, r.gate, what, time.Now()); err != nil {
		t.Fatal(err)
	}
	if linked, stored := there(first); linked || stored {
		t.Errorf("what was sent before, after the next run: linked %v, stored %v", linked, stored)
	}
}
