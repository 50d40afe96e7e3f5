package zot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// Zot 2.1.6 prints that it refused a configuration and does not log it, so that a
// log without a word may mean a file that it does not start with.
func TestWhatNobodySaysZotTookOverIsPutBack(t *testing.T) {
	p, config, _ := theirs(t)
	before, err := files.Read(config)
	if err != nil {
		t.Fatal(err)
	}
	err = wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")}))
	if err == nil || errors.Is(err, providers.ErrPending) || !strings.Contains(err.Error(), "standard error") {
		t.Errorf("error %v", err)
	}
	if after, err := files.Read(config); err != nil || !files.Equal(before, after) {
		t.Errorf("it holds\n%s, %v", after, err)
	}
}

// theirs is a Zot of somebody else's that logs to a file.
func theirs(t *testing.T) (p *Provider, config, log string) {
	t.Helper()
	p, dir := somebodyElses(t, `{"storage":{"rootDirectory":"/r"},"http":{"port":1,"auth":{"htpasswd":{"path":"`+filepath.Join(t.TempDir(), "none")+`"}},"accessControl":{"repositories":{"**":{"defaultPolicy":["read"]}}}},"log":{"output":"/elsewhere"}}`, map[string]string{"zot.log": ""})
	p.paths.htpasswd, p.patience = "", 50*time.Millisecond
	return p, filepath.Join(dir, "config.json"), filepath.Join(dir, "zot.log")
}

// It waits for what it does in the background first, whoever runs it.
func TestASlowReloadOfSomebodyElsesZotThatSeesItsFileIsAwaited(t *testing.T) {
	p, config, log := theirs(t)
	providertest.Serving(t, config, nil)
	p.patience = 500 * time.Millisecond
	timer := time.AfterFunc(time.Second, func() {
		if err := os.WriteFile(log, []byte(`{"message":"`+recordLoaded+`"}`+"\n"), 0o600); err != nil {
			t.Error(err)
		}
	})
	defer timer.Stop()
	if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
		t.Error(err)
	}
}

func TestWhereNothingTellsWhichProcessServesItIsSaid(t *testing.T) {
	p, config, _ := theirs(t)
	first, second := providertest.Serving(t, config, nil), providertest.Serving(t, config, nil)
	text, err := os.ReadFile(config)
	if err == nil {
		err = errors.Join(os.WriteFile(config+".new", text, 0o600), os.Rename(config+".new", config))
	}
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.Prepare(t.Context(), []plan.Change{makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})})
	if err != nil || v[0].Effect != plan.ByHand || !strings.Contains(strings.Join(v[0].Notes, "\n"), "processes "+first+", "+second+" ") {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestARefusalThatIsOnlyPrintedIsSeen(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordFailed + ", retry writing it." })
	log := filepath.Join(p.paths.data, "zot.log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := files.Write(a.config, []byte(a.text()), []byte(strings.Replace(a.text(), `"level": "info"`, `"level": "info", "output": "`+log+`"`, 1))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Stop(t.Context()), a.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	p.patience = 10 * time.Second
	before := a.text()
	err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")}))
	if err == nil || !strings.Contains(err.Error(), "did not take") || a.text() != before || a.began != 2 {
		t.Errorf("%d starts, error %v; it holds\n%s", a.began, err, a.text())
	}
}

// What is written and taken over is done, though the disk has no room left to
// note it.
func TestWhatIsInForceIsDoneThoughItCannotBeNoted(t *testing.T) {
	var p *Provider
	p, a := played(t, nowhere, func(string) string {
		dir := filepath.Dir(p.paths.own)
		if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
			t.Error(err)
		}
		return recordLoaded
	})
	if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil || !strings.Contains(a.text(), `"g"`) {
		t.Errorf("error %v; it holds\n%s", err, a.text())
	}
}

func TestAProgramThatDoesNotRunIsNotTheConfigurationsFault(t *testing.T) {
	p, _ := played(t, nowhere, func(string) string { return recordLoaded })
	p.registry.Run.Binary = filepath.Join(t.TempDir(), "zot")
	if err := os.WriteFile(p.registry.Run.Binary, []byte("no program\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.Precheck(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "registry.run.binary") || strings.Contains(err.Error(), "mend the file") {
		t.Errorf("error %v", err)
	}
}
