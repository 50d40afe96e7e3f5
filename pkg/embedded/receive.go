package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/distribution/distribution/v3/manifest/manifestlist"
	"github.com/distribution/distribution/v3/manifest/schema2"
	"github.com/distribution/distribution/v3/notifications"
	"github.com/distribution/reference"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/pkg/webhook"
)

// receive takes what a Distribution that another program serves posts of its
// events, until stop, and tells the webhooks of the accounts' rules.
func (r *Registry) receive(ctx context.Context) (stop func()) {
	if r.options.Tokens == nil || r.options.Tokens.Inbox == "" {
		return func() {}
	}
	in := webhook.NewReceiver(webhook.ReceiverOptions{
		Inbox: r.options.Tokens.Inbox, Engine: r.hooks, Logger: r.logger, Read: r.notified,
		Namespace: func(repository string) string { return r.store.now().rules.Namespace(repository) },
	})
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		in.Run(ctx)
	}()
	return func() {
		end()
		<-done
	}
}

// notified reads the events of Distribution's envelope as far as webhooks are
// told of such: manifests that were pushed, pulled (a HEAD is no pull) or deleted.
// A blob that was deleted is to Distribution what a manifest is.
func (r *Registry) notified(_ http.Header, body []byte) ([]webhook.Event, error) {
	var posted struct{ Events []notifications.Event }
	if err := json.Unmarshal(body, &posted); err != nil {
		return nil, errors.New("it is no envelope of Distribution's events")
	}
	var out []webhook.Event
	for _, e := range posted.Events {
		manifest := slices.Contains([]string{imagespec.MediaTypeImageManifest, imagespec.MediaTypeImageIndex, schema2.MediaTypeManifest, manifestlist.MediaTypeManifestList}, e.Target.MediaType)
		switch e.Action {
		case notifications.EventActionPush:
			if !manifest {
				continue
			}
		case notifications.EventActionPull:
			if !manifest || e.Request.Method == http.MethodHead {
				continue
			}
		case notifications.EventActionDelete:
			if e.Target.Tag == "" && e.Target.Digest == "" {
				continue
			}
		default:
			continue
		}
		if _, err := reference.WithName(e.Target.Repository); err != nil {
			return nil, errors.New("an event names no repository")
		}
		e.Request.UserAgent, e.Target.References = clip(e.Request.UserAgent), nil
		e.Source.Addr = r.options.Tokens.Service
		out = append(out, webhook.Event{Event: e})
	}
	return out, nil
}
