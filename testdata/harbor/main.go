// Command harbor serves the stand-in for Harbor that the tests use, for
// demonstrations without a Harbor at hand. What it is told it forgets when it
// stops, on an interrupt or a termination.
//
//	go run ./testdata/harbor -listen 127.0.0.1:8085
//
// At [trafficPath], which no Harbor has, it says how busy it was, as JSON, since its
// start or the last DELETE of it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "harbor:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("harbor", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8085", "`address` to listen at; port 0 takes a free one")
	password := flags.String("password", "Harbor12345", "`password` of admin")
	latency := flags.Duration("latency", 0, "how long every answer takes")
	robot := flags.String("robot", "", "`name:secret` of a robot that may do whatever robots may")
	ca := flags.String("ca", "", "`file` to write a certificate to, made for this run, that it is then served with")
	content := flags.String("push", "", "`repository:tag,...` to be there from the start, in the project library")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	address := "http://" + listener.Addr().String()
	if *ca != "" {
		if listener, err = guarded(listener, *ca); err != nil {
			return err
		}
		address = "https://" + listener.Addr().String()
	}
	harbor := harbortest.New(harbortest.Options{
		Address: address, Password: *password,
		Latency: func(harbortest.Request) time.Duration { return *latency },
	})
	for image := range strings.SplitSeq(*content, ",") {
		if image == "" {
			continue
		}
		repository, tag, _ := strings.Cut(image, ":")
		if err := harbor.Push(harbortest.Image{Repository: repository, Tags: []string{tag}, Size: 1 << 20, Env: []string{"IMAGE=" + image}}); err != nil {
			return err
		}
	}
	if name, secret, given := strings.Cut(*robot, ":"); given {
		if err := employ(ctx, harbor, *password, name, secret); err != nil {
			return err
		}
	}
	server := &http.Server{Handler: counted(harbor), ReadHeaderTimeout: 10 * time.Second}
	if _, err := fmt.Fprintf(out, "stand-in for Harbor %s at %s, login admin, password %s\n", harbortest.Version, address, *password); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		return err
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// trafficPath is where it says how busy it was.
const trafficPath = "/stand-in/traffic"

// counted serves a stand-in, and what is known of its traffic.
func counted(harbor *harbortest.Server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != trafficPath:
			harbor.ServeHTTP(w, r)
		case r.Method == http.MethodDelete:
			harbor.Forget()
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(harbor.Traffic()) // the client went away
		}
	})
}

// employ makes a robot with all rights that a robot can have, and its secret, which
// Harbor takes only after that.
func employ(ctx context.Context, harbor http.Handler, password, name, secret string) error {
	ask := func(method, path string, in, out any) error {
		body, err := json.Marshal(in)
		if err != nil {
			return err
		}
		r := httptest.NewRequestWithContext(ctx, method, "/api/v2.0"+path, bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.SetBasicAuth("admin", password)
		w := httptest.NewRecorder()
		harbor.ServeHTTP(w, r)
		if w.Code/100 != 2 {
			return fmt.Errorf("robot %s: %s: %s", name, path, strings.TrimSpace(w.Body.String()))
		}
		return json.Unmarshal(w.Body.Bytes(), out)
	}
	type permission struct {
		Kind      string          `json:"kind"`
		Namespace string          `json:"namespace"`
		Access    json.RawMessage `json:"access"`
	}
	var rights struct{ System, Project json.RawMessage }
	if err := ask(http.MethodGet, "/permissions", nil, &rights); err != nil {
		return err
	}
	var made struct{ ID int64 }
	if err := ask(http.MethodPost, "/robots", map[string]any{
		"name": name, "level": "system", "duration": -1,
		"permissions": []permission{{"system", "/", rights.System}, {"project", "*", rights.Project}},
	}, &made); err != nil {
		return err
	}
	return ask(http.MethodPatch, fmt.Sprintf("/robots/%d", made.ID), map[string]string{"secret": secret}, &struct{}{})
}
