package embedded

import (
	"context"
	"net/http"
	"net/url"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded/quota"
	"github.com/ocisync/ocisync/schema"
)

func (r *Registry) serveUsage(w http.ResponseWriter, q *http.Request) {
	steady := r.gate.steady()
	list, err := usages(q.Context(), r.guard.ledgers, r.store.now(), q.URL.Query()["namespace"])
	steady()
	if err != nil {
		r.logger.Error("counting usage failed", "error", err)
		ociError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	writeJSON(w, http.StatusOK, list)
}

func (r *Registry) serveRetention(w http.ResponseWriter, q *http.Request) {
	var o RetentionOptions
	if !readJSON(w, q, maxCheckBytes, &o) {
		return
	}
	answerLater(w, func() (Report, error) {
		report, err := r.Retention(q.Context(), o)
		if !o.DryRun {
			recordOf(q).ran(JobRetention, err)
		}
		return Report{Job: JobRetention, Retention: &report}, err
	})
}

// usages counts the namespaces, those with a quota where none is named.
func usages(ctx context.Context, all *quota.Ledgers, now *snapshot, namespaces []string) ([]Usage, error) {
	if len(namespaces) == 0 {
		for _, n := range sortedNames(now.policies) {
			if now.policies[n].limited {
				namespaces = append(namespaces, n)
			}
		}
	}
	list := []Usage{}
	for _, n := range namespaces {
		if n == "" || access.In(access.Reserved, n) {
			continue
		}
		p := now.policies[n]
		count, err := all.Count(ctx, now.view(), n, p.limited)
		if err != nil {
			return nil, err
		}
		u := Usage{Namespace: n, Limit: schema.Unlimited, Used: schema.Size(count.Used), Waiting: schema.Size(count.Waiting), Uploading: schema.Size(count.Uploading)}
		if p.limited {
			u.Limit = schema.Size(p.limit)
		}
		list = append(list, u)
	}
	return list, nil
}

// Usage says how much the namespaces use, all that have a quota where none is
// named.
func (c *Client) Usage(ctx context.Context, namespaces []string) ([]Usage, error) {
	var list []Usage
	err := call(ctx, c, http.MethodGet, "usage", url.Values{"namespace": namespaces}, struct{}{}, &list)
	return list, err
}

// Usage says how much the namespaces use, all that have a quota where none is
// named.
func (d *Directory) Usage(ctx context.Context, namespaces []string) ([]Usage, error) {
	doc, err := loadDocument(d.data)
	if err != nil {
		return nil, err
	}
	s, err := d.content(ctx)
	if err != nil {
		return nil, err
	}
	return usages(ctx, quota.NewLedgers(s), compile(doc, "", nil), namespaces)
}

// Retention runs a retention job in the process that serves the registry.
func (c *Client) Retention(ctx context.Context, o RetentionOptions) (RetentionReport, error) {
	var response runResponse
	if err := callFor(ctx, c, http.MethodPost, "run/retention", nil, o, &response); err != nil {
		return RetentionReport{}, err
	}
	if response.Report.Retention == nil {
		return RetentionReport{}, ErrForeign
	}
	return *response.Report.Retention, wireResult{Code: response.Code, Error: response.Error}.result().Err
}
