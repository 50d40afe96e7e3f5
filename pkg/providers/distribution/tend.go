package distribution

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/token"
)

const (
	// calm is for how long nobody has asked for a token at a moment to restart the
	// registry in; it lets requests that it has end.
	calm = 10 * time.Second
	// certificateWait is how long a new certificate waits for such a moment.
	certificateWait = 10 * time.Minute
	// keysCalm is for how long nobody has asked for a token when nobody has one that
	// is good: then a restart refuses nobody. A former key that the registry is to
	// forget waits for that, since who has tokens of it has none after as long.
	keysCalm = token.Life + token.Leeway
	// keysPatience is how long that may take before it is said to be a trouble: the
	// keys do not rotate again before.
	keysPatience = 7 * 24 * time.Hour
)

// Troubles implements [providers.Troubled].
func (p *Provider) Troubles(ctx context.Context) (out []providers.Trouble, err error) {
	if text, err := p.misgiven(ctx); err != nil {
		return nil, err
	} else if text != "" {
		out = append(out, providers.Trouble{What: "realm", Text: text})
	}
	ours := p.registry.Run != nil && p.process != nil
	if !ours && !p.byFile() {
		return out, nil
	}
	since, running, err := p.running(ctx)
	if err != nil || !running {
		return out, err
	}
	if p.byFile() {
		if text, err := p.people.trouble(since); err != nil {
			return nil, err
		} else if text != "" {
			out = append(out, providers.Trouble{What: "accounts", Text: text})
		}
		if text, err := p.people.unfinished(); err != nil {
			return nil, err
		} else if text != "" {
			out = append(out, providers.Trouble{What: "files", Text: text})
		}
	}
	if !ours {
		return out, nil
	}
	shut, err := p.shut(ctx)
	if err != nil {
		return nil, err
	}
	if free, release, err := p.tryAlone(); err != nil {
		return nil, err
	} else if free {
		release()
		if shut {
			out = append(out, providers.Trouble{What: "pushes", Text: "it is read-only: a collection was killed; ocisync restart has it take pushes, and so does ocisync up that gives tokens, by itself"})
		}
	} else if shut {
		out = append(out, providers.Trouble{What: "pushes", Text: "it is read-only while it is collected", Passing: true})
	}
	if _, text, err := p.certificateDue(ctx); err != nil {
		return nil, err
	} else if text != "" {
		out = append(out, providers.Trouble{What: "certificate", Text: text})
	}
	switch written, former, err := p.keysDue(since); {
	case err != nil:
		return nil, err
	case written.IsZero():
	case former:
		out = append(out, providers.Trouble{What: "keys", Text: "the keys of its tokens were rotated: it takes those of the former one until they have expired", Passing: true})
	default:
		out = append(out, providers.Trouble{
			What: "keys", Text: "all tokens of a former key have expired, and until it is restarted it would take another one of whoever has that key; ocisync up, or auth serve, restarts it once nobody has a token, and ocisync restart at once",
			Passing: time.Since(written) < keysPatience,
		})
	}
	return out, nil
}

// certificateDue says that the registry shows another certificate than lies in
// registry.tls.cert, which it reads when it starts; since when that lies there,
// and zero where a restart does not help.
func (p *Provider) certificateDue(ctx context.Context) (written time.Time, text string, err error) {
	t := p.registry.TLS
	if t == nil || t.Cert == nil || t.Key == nil {
		return written, "", nil
	}
	shown, err := p.shown(ctx)
	if err != nil {
		return written, "", nil //nolint:nilerr // it does not answer, which is told elsewhere
	}
	pair, err := tls.LoadX509KeyPair(*t.Cert, *t.Key)
	if err != nil { // its text could hold a part of the key
		return written, "registry.tls.cert and registry.tls.key are not a certificate and its key in PEM: it would not start with them", nil //nolint:nilerr // the text says it
	}
	if bytes.Equal(pair.Leaf.Raw, shown.Raw) {
		return written, "", nil
	}
	if now := time.Now(); now.Before(pair.Leaf.NotBefore) || now.After(pair.Leaf.NotAfter) {
		return written, fmt.Sprintf("what lies in %s is not valid now; it goes on with the one before, until %s", *t.Cert, shown.NotAfter.UTC().Format(time.RFC3339)), nil
	}
	info, err := os.Stat(*t.Cert)
	if err != nil {
		return written, "", err
	}
	return info.ModTime(), fmt.Sprintf("it shows the certificate from before, until %s, and one until %s lies in %s; ocisync up that gives tokens restarts it at a quiet moment, and ocisync restart at once",
		shown.NotAfter.UTC().Format(time.RFC3339), pair.Leaf.NotAfter.UTC().Format(time.RFC3339), *t.Cert), nil
}

// shown is the certificate that the registry answers with.
func (p *Provider) shown(ctx context.Context) (*x509.Certificate, error) {
	u, err := url.Parse(p.registry.URL)
	if err != nil {
		return nil, err
	}
	at := p.registry.Run.Listen
	if at == "" {
		if at = u.Host; u.Port() == "" {
			at = net.JoinHostPort(u.Hostname(), "443")
		}
	}
	// nothing is sent that whoever answers could abuse
	d := tls.Dialer{Config: &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} //nolint:gosec // it is only looked at
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c, ok := conn.(*tls.Conn)
	if !ok || len(c.ConnectionState().PeerCertificates) == 0 {
		return nil, errors.New("no certificate")
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

// keysDue says when the public keys were written, if a registry that runs since a
// time has not read them, else zero; and whether tokens of a former one are good
// still.
func (p *Provider) keysDue(since time.Time) (written time.Time, former bool, err error) {
	if p.place.Service == nil || p.byFile() {
		return written, false, nil
	}
	info, err := os.Lstat(p.place.JWKS())
	if errors.Is(err, fs.ErrNotExist) {
		return written, false, nil
	}
	if err != nil || !since.Add(startClock).Before(info.ModTime()) {
		return written, false, err
	}
	keys, err := token.Published(p.place.JWKS())
	return info.ModTime(), keys > 2, err
}

// shut reports whether the registry takes no pushes.
func (p *Provider) shut(ctx context.Context) (bool, error) {
	live, err := p.inForce(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n := live.doc.get(readOnly)
	return n != nil && n.Value == "true", nil
}

// tend restarts a registry that ocisync runs where only that mends it, unless
// somebody is at it. quiet is for how long no client has asked for a token. Not
// safe for concurrent use.
func (p *Provider) tend(ctx context.Context, quiet time.Duration) error {
	if p.registry.Run == nil || p.process == nil {
		return nil
	}
	free, release, err := p.tryAlone()
	if err != nil || !free {
		return err
	}
	defer release()
	if err := p.resume(ctx); err != nil {
		return err
	}
	since, running, err := p.running(ctx)
	if err != nil || !running {
		return err
	}
	shut, err := p.shut(ctx)
	if err != nil {
		return err
	}
	if shut {
		p.logger.Warn("the registry is restarted: a collection that was killed left it read-only")
		return p.takePushes(context.WithoutCancel(ctx), true)
	}
	if changed, err := p.stale(ctx); err != nil || changed != "" || p.outdated(since) {
		return err // a restart would put into force what nobody planned
	}
	written, _, err := p.certificateDue(ctx)
	if err != nil {
		return err
	}
	if !written.IsZero() && !written.Equal(p.renewed) && (quiet >= calm || time.Since(written) >= certificateWait) {
		p.renewed = written
		p.logger.Info("the registry is restarted: it has another certificate")
		return p.again(context.WithoutCancel(ctx))
	}
	written, former, err := p.keysDue(since)
	if err != nil {
		return err
	}
	if !written.IsZero() && !former && quiet >= keysCalm {
		p.logger.Info("the registry is restarted, since nobody has a token: it is to forget a former key")
		return p.again(context.WithoutCancel(ctx))
	}
	return nil
}
