package embedded_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

// sendPart sends a part of an upload as dev and returns status and location.
func (s *served) sendPart(t *testing.T, method, path string, body []byte, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("dev", "pw-dev")
	req.Header.Set("Content-Type", "application/octet-stream")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// begin starts an upload with a first part, and returns where it goes on.
func (s *served) begin(t *testing.T, repository string, part []byte) string {
	t.Helper()
	resp, text := s.sendPart(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil)
	if resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp.Status, text)
	}
	if resp, text = s.sendPart(t, http.MethodPatch, resp.Header.Get("Location"), part); resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp.Status, text)
	}
	return resp.Header.Get("Location")
}

func TestAnUploadGoesOnAfterARestart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	blob := bytes.Repeat([]byte("part "), 1000)
	var at string
	t.Run("before", func(t *testing.T) {
		at = quota(t, data, 1<<20).begin(t, "free/app", blob[:2000])
	})
	t.Run("between", func(t *testing.T) {
		s := serve(t, data)
		resp, text := s.sendPart(t, http.MethodPatch, at, blob[2000:3000], "Content-Range", "2000-2999")
		if resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp.Status, text)
		}
		at = resp.Header.Get("Location")
	})
	s := serve(t, data)
	d := digest.FromBytes(blob).String()
	if resp, text := s.sendPart(t, http.MethodPut, at+"&digest="+d, blob[3000:]); resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status, text)
	}
	if got := s.asDev(t, "GET", "/v2/free/app/blobs/"+d); got != http.StatusOK {
		t.Errorf("status %d", got)
	}
	info, err := os.Stat(filepath.Join(data, "ocisync", "uploads.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
}

func TestUnfinishedUploadsCountAgainstTheQuotaAndGoWithCollection(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	const part = 50 << 10
	var statuses []int
	t.Run("fill", func(t *testing.T) {
		s := quota(t, data, 100<<10)
		all := schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push}, schema.Grant{Name: "eve", Rights: schema.Pull | schema.Push})}
		s.change(t, putUser(t, "eve", false), putAccess("team", all))
		as := []string{}
		for i := range 5 {
			if i == 4 { // a refusal would end the push of who sent the others
				as = []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("eve:pw-eve"))}
			}
			resp, text := s.sendPart(t, http.MethodPost, "/v2/team/app/blobs/uploads/", nil, as...)
			if resp.StatusCode != http.StatusAccepted {
				t.Fatal(resp.Status, text)
			}
			resp, text = s.sendPart(t, http.MethodPatch, resp.Header.Get("Location"), bytes.Repeat([]byte{byte(i)}, part), as...)
			statuses = append(statuses, resp.StatusCode)
			if resp.StatusCode == http.StatusForbidden && (!strings.Contains(text, "DENIED") || !strings.Contains(text, `"uploading":204800,"needs":51200}`)) {
				t.Error(text)
			}
		}
		resp, _ := s.sendPart(t, http.MethodPost, "/v2/team/app/blobs/uploads/", nil, as...)
		whole := bytes.Repeat([]byte("whole"), part/4)
		resp, text := s.sendPart(t, http.MethodPut, resp.Header.Get("Location")+"&digest="+digest.FromBytes(whole).String(), whole, as...)
		if resp.StatusCode != http.StatusForbidden || !strings.Contains(text, `"uploading":204800,"needs":64000}`) {
			t.Error(resp.Status, text)
		}
		if u := s.usage(t); u.Uploading != 4*part || u.Used+u.Waiting != 0 {
			t.Errorf("%+v", u)
		}
		s.change(t, putUser(t, "root", true))
		resp, b := s.request(t, http.MethodGet, "root", "/metrics", "", nil)
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(b), "ocisync_upload_bytes 204800") {
			t.Errorf("metrics say of uploads: %s", regexp.MustCompile(`(?m)^ocisync_upload.*`).Find(b))
		}
	})
	if want := []int{202, 202, 202, 202, 403}; !slices.Equal(statuses, want) {
		t.Fatalf("statuses %v, want %v", statuses, want)
	}
	age := func(by time.Duration) {
		t.Helper()
		then := time.Now().Add(-by)
		if err := filepath.WalkDir(filepath.Join(data, "docker"), func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chtimes(path, then, then))
		}); err != nil {
			t.Fatal(err)
		}
	}
	age(23 * time.Hour)
	s := serve(t, data)
	collect := func() *embedded.Collected {
		t.Helper()
		report, err := s.Run(t.Context(), embedded.JobGC, false)
		if err != nil {
			t.Fatal(err)
		}
		return report.GC
	}
	if c := collect(); c.Uploads != 0 {
		t.Errorf("young uploads go: %+v", c)
	}
	if u := s.usage(t); u.Uploading != 4*part {
		t.Errorf("after a restart: %+v", u)
	}
	age(25 * time.Hour)
	inUse := s.begin(t, "free/app", []byte("its directory is old, and somebody works on it"))
	age(25 * time.Hour)
	if c := collect(); c.Uploads != 4 || c.Bytes != 4*part {
		t.Errorf("%+v", c)
	}
	if u := s.usage(t); u.Uploading != 0 {
		t.Errorf("after collection: %+v", u)
	}
	if resp, text := s.sendPart(t, http.MethodPatch, inUse, []byte(", still")); resp.StatusCode != http.StatusAccepted {
		t.Error(resp.Status, text)
	}
	s.begin(t, "team/app", bytes.Repeat([]byte("x"), part))
}

// What an upload announces it may never send.
func TestSlowUploadsHoldNoMoreOfAQuotaThanTheySent(t *testing.T) {
	for _, method := range []string{http.MethodPatch, http.MethodPut} {
		t.Run(method, func(t *testing.T) { besideSlowOnes(t, method) })
	}
}

func besideSlowOnes(t *testing.T, method string) {
	t.Helper()
	s := quota(t, filepath.Join(t.TempDir(), "data"), 20<<20)
	for i := range 2 {
		resp, _ := s.sendPart(t, http.MethodPost, "/v2/team/app/blobs/uploads/", nil)
		at, err := url.Parse(resp.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		slow, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		login := base64.StdEncoding.EncodeToString([]byte("dev:pw-dev"))
		if _, err := fmt.Fprintf(slow, "%s %s&digest=%s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\nx", method, at.RequestURI(), digest.FromString(fmt.Sprint(i)), login, 19<<20); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); s.usage(t).Uploading == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the slow uploads have not begun")
		}
	}
	if u := s.usage(t); u.Uploading > 1<<20 || u.Waiting != 0 {
		t.Errorf("two that sent a byte each hold %s, and %s as blobs", u.Uploading, u.Waiting)
	}
	resp, _ := s.sendPart(t, http.MethodPost, "/v2/team/app/blobs/uploads/", nil)
	began := time.Now()
	resp, text := s.sendPart(t, http.MethodPatch, resp.Header.Get("Location"), make([]byte, 5<<20))
	if resp.StatusCode != http.StatusAccepted || time.Since(began) > 10*time.Second {
		t.Errorf("5 MiB beside them: %s after %s: %s", resp.Status, time.Since(began), text)
	}
	s.mustPush(t, "team/honest:1", imageOf(t, 1<<20, 2))
}

// Each alone fits, and of all together no more than there may be.
func TestPutsAtOnceThatDoNotFitTogetherAreNotAllStored(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 100<<10)
	var all sync.WaitGroup
	var stored atomic.Int64
	for i := range 6 {
		all.Go(func() {
			blob := bytes.Repeat([]byte{byte(i)}, 90<<10)
			resp, _ := s.sendPart(t, http.MethodPost, fmt.Sprintf("/v2/team/app%d/blobs/uploads/", i), nil)
			resp, text := s.sendPart(t, http.MethodPut, resp.Header.Get("Location")+"&digest="+digest.FromBytes(blob).String(), blob)
			switch resp.StatusCode {
			case http.StatusCreated:
				stored.Add(1)
			case http.StatusForbidden:
			default:
				t.Errorf("upload %d: %s: %s", i, resp.Status, text)
			}
		})
	}
	all.Wait()
	if u := s.usage(t); stored.Load() != 2 || u.Waiting != 2*90<<10 || u.Uploading != 0 {
		t.Errorf("%d are stored; %+v", stored.Load(), u)
	}
}

func TestUploadsLeftAloneGiveWayToOthersAndNoneElse(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	const part = 50 << 10
	var at []string
	t.Run("cut", func(t *testing.T) {
		s := quota(t, data, 100<<10)
		for i := range 4 {
			at = append(at, s.begin(t, fmt.Sprintf("team/app%d", i), bytes.Repeat([]byte{byte(i)}, part)))
		}
	})
	for i, ago := range []time.Duration{3 * time.Minute, time.Minute, 4 * time.Minute, time.Minute} {
		then := time.Now().Add(-ago)
		if err := filepath.WalkDir(filepath.Join(data, "docker/registry/v2/repositories", fmt.Sprintf("team/app%d/_uploads", i)), func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chtimes(path, then, then))
		}); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, data)
	s.begin(t, "team/new", bytes.Repeat([]byte("n"), part))
	more := []byte("more")
	if resp, text := s.sendPart(t, http.MethodPatch, at[2], more); resp.StatusCode != http.StatusNotFound || !strings.Contains(text, "BLOB_UPLOAD_UNKNOWN") {
		t.Errorf("the one that gave way: %s: %s", resp.Status, text)
	}
	if u := s.usage(t); u.Uploading != 4*part {
		t.Errorf("%+v", u)
	}
	if resp, text := s.sendPart(t, http.MethodPatch, at[1], more); resp.StatusCode != http.StatusAccepted { // for which the other old one gives way
		t.Errorf("a young one goes on: %s: %s", resp.Status, text)
	}
	if resp, _ := s.sendPart(t, http.MethodPatch, at[0], more); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the second that gave way: %s", resp.Status)
	}
}

func TestWhatADiskTookBeforeItWasFullIsGivenBack(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this system has no /dev/full")
	}
	data := filepath.Join(t.TempDir(), "data")
	s := quota(t, data, 1<<20)
	for _, repository := range []string{"team/app", "free/app"} {
		resp, _ := s.sendPart(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil)
		at := resp.Header.Get("Location")
		file := filepath.Join(data, "docker/registry/v2/repositories", repository, "_uploads", resp.Header.Get("Docker-Upload-UUID"), "data")
		if err := errors.Join(os.Remove(file), os.Symlink("/dev/full", file)); err != nil {
			t.Fatal(err)
		}
		resp, text := s.sendPart(t, http.MethodPatch, at, make([]byte, 100<<10))
		if resp.StatusCode != http.StatusInternalServerError {
			t.Fatal(resp.Status, text)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", repository, left, err)
		}
	}
	if u := s.usage(t); u.Uploading != 0 {
		t.Errorf("%+v", u)
	}
}

// A client whose part was cut knows no newer address than the former.
func TestAnUploadIsEndedByAFormerAddress(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 1<<20)
	resp, _ := s.sendPart(t, http.MethodPost, "/v2/team/app/blobs/uploads/", nil)
	at := resp.Header.Get("Location")
	if resp, text := s.sendPart(t, http.MethodPatch, at, make([]byte, 1000)); resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp.Status, text)
	}
	if resp, text := s.sendPart(t, http.MethodDelete, at, nil); resp.StatusCode != http.StatusNoContent {
		t.Errorf("%s: %s", resp.Status, text)
	}
	if resp, _ := s.sendPart(t, http.MethodDelete, at, nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("again: %s", resp.Status)
	}
	if u := s.usage(t); u.Uploading != 0 {
		t.Errorf("%+v", u)
	}
}
