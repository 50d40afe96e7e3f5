package oci

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// Probe asks a registry from outside whether somebody may do a thing in a
// namespace, by a request that cannot take effect: its repository and its
// content have random names, and nothing is created by it. POST, PATCH and
// manifests are never sent: some registries make a repository of them that they
// do not collect.
type Probe struct {
	Namespace      string
	User, Password string        // "" for anybody
	Right          schema.Rights // pull, push or delete
}

// Answer is what a registry said to a probe.
type Answer struct {
	Status  int // of HTTP
	Allowed bool
	Known   bool // the status tells either
}

// question is the request of a probe.
type question struct {
	method, url, scope string
}

func (p Probe) question(base string) question {
	random := make([]byte, 32)
	rand.Read(random) // never fails
	digest := "sha256:" + hex.EncodeToString(random)
	name := p.Namespace + "/ocisync-probe-" + hex.EncodeToString(random[:8])
	repository := strings.TrimSuffix(base, "/") + "/v2/" + name
	switch p.Right {
	case schema.Push:
		id := hex.EncodeToString(random[:16])
		id = id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
		return question{http.MethodPut, repository + "/blobs/uploads/" + id + "?digest=" + digest, "repository:" + name + ":pull,push"}
	case schema.Delete:
		return question{http.MethodDelete, repository + "/manifests/" + digest, "repository:" + name + ":delete"}
	}
	return question{http.MethodGet, repository + "/tags/list", "repository:" + name + ":pull"}
}

// Ask sends the probe to the registry at base. Where the registry wants a token,
// it is fetched from the service that it names, with the login: the client's
// transport must let that go to a service that the caller knows alone; see
// [Confine].
func (p Probe) Ask(ctx context.Context, client *http.Client, base string) (Answer, error) {
	q := p.question(base)
	status, wants, err := p.send(ctx, client, q, p.login)
	if err != nil {
		return Answer{}, err
	}
	if status == http.StatusUnauthorized && wants.Auth == "bearer" {
		token, refused, err := p.token(ctx, client, wants, q.scope)
		if err != nil {
			return Answer{}, err
		}
		if token == "" {
			return answer(refused), nil
		}
		status, _, err = p.send(ctx, client, q, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) })
		if err != nil {
			return Answer{}, err
		}
	}
	return answer(status), nil
}

func answer(status int) Answer {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return Answer{status, false, true}
	case http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed:
		return Answer{status, true, true}
	}
	return Answer{Status: status}
}

func (p Probe) login(r *http.Request) {
	if p.User != "" {
		r.SetBasicAuth(p.User, p.Password)
	}
}

// send returns the status of the answer, and what login it asks for.
func (p Probe) send(ctx context.Context, client *http.Client, q question, login func(*http.Request)) (status int, wants Info, err error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, http.NoBody)
	if err != nil {
		return 0, Info{}, err
	}
	login(req)
	resp, err := client.Do(req)
	if err != nil {
		return 0, Info{}, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	wants, _ = Challenge(resp.Header.Values("WWW-Authenticate"))
	return resp.StatusCode, wants, nil
}

// token asks a token service; "" with the status of a refusal.
func (p Probe) token(ctx context.Context, client *http.Client, wants Info, scope string) (token string, status int, err error) {
	realm, err := url.Parse(wants.Realm)
	if err != nil || realm.Host == "" {
		return "", 0, fmt.Errorf("the registry names no token service: realm %q", printable(wants.Realm))
	}
	q := realm.Query()
	q.Set("service", wants.Service)
	q.Set("scope", scope)
	realm.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), http.NoBody)
	if err != nil {
		return "", 0, err
	}
	p.login(req)
	resp, err := client.Do(req)
	if err != nil {
		return "", 0, fmt.Errorf("asking the token service: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		return "", resp.StatusCode, nil
	}
	var said struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&said); err != nil {
		return "", 0, fmt.Errorf("asking the token service: %w", err)
	}
	if said.Token == "" {
		said.Token = said.AccessToken
	}
	if said.Token == "" {
		return "", http.StatusUnauthorized, nil
	}
	return said.Token, http.StatusOK, nil
}
