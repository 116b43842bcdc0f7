package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/wire"
)

// TestVerifyAndCheckCannotLook checks that neither verify nor check reports success, and that verify reports no
// finding, if the cluster gives a wrong answer, at first or after some right ones. What is answered later is tried by
// TestLogCannotLook in package verify.
func TestVerifyAndCheckCannotLook(t *testing.T) {
	const page = "<html><body>Please log in.</body></html>"
	f := clitest.NewCluster(t)
	l := newSignedLog(t, 3)
	key := l.layOut(t.TempDir())["LOG_KEY"]
	for name, a := range map[string]struct {
		status      int
		media, body string
	}{
		"401":           {401, "text/html", page},
		"403":           {403, "text/html", page},
		"404":           {404, "text/html", page},
		"410":           {410, "text/html", page},
		"200, a page":   {200, "text/html", page},
		"200, empty":    {200, "", ""},
		"200, {}":       {200, "application/json", "{}"},
		"200, null":     {200, "application/json", "null"},
		"200, no lists": {200, "application/json", `{"nodes":null,"events":null}`},
		"200, a problem": {200, wire.TypeProblem,
			`{"type":"` + wire.ProblemBase + `not-found","title":"Not found","status":404}`},
		"204": {204, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for right := range int64(3) {
				var asked atomic.Int64
				serve := func(h http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if asked.Add(1) <= right {
							h.ServeHTTP(w, r)
							return
						}
						w.Header().Set("Content-Type", a.media)
						w.WriteHeader(a.status)
						_, _ = io.WriteString(w, a.body)
					})
				}
				asked.Store(0)
				f.CheckSteps("s-aaaabbbbcccc", clitest.Checking, clitest.Checking, clitest.Checking)
				f.URL = f.Serve(serve)
				f.Use(t)
				out, _, err := run(t, nil, "check", "s-aaaabbbbcccc")
				if err == nil || strings.Contains(out, "  valid") {
					t.Errorf("check after %d right answers: %v, printed %q", right, err, out)
				}
				asked.Store(0)
				server := httptest.NewServer(serve(l))
				if right < 2 { // it asks twice
					out, _, err = run(t, nil, "verify", "--url", server.URL, "--key", key)
					if err == nil || cli.ExitStatus(err) != cli.ExitUnchecked || strings.Contains(out, "valid") ||
						!strings.HasPrefix(out, "height     0\n") && !strings.Contains(out, "\nheight     0\n") {
						t.Errorf("verify after %d right answers: %v, printed %q", right, err, out)
					}
				}
				server.Close()
			}
		})
	}
}

// TestVerifyFilesCannotLook checks that verify of something that cannot be read is not completed.
func TestVerifyFilesCannotLook(t *testing.T) {
	dir := t.TempDir()
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	emptied := filepath.Join(dir, "storage") // a data folder all files of which were removed
	for _, name := range []string{"segments", "tiles", "records", "inbox", "quarantine"} {
		if err := os.MkdirAll(filepath.Join(emptied, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{
		filepath.Join(dir, "nowhere"), dir, emptied, loop, file, filepath.Join(file, "below"),
	} {
		for _, flag := range []string{"--data", "--file"} {
			out, _, err := run(t, nil, "verify", flag, path)
			want := cli.ExitUnchecked
			if flag == "--file" && path == file {
				want = cli.ExitFailed // an empty file is an export that was cut off
			}
			if err == nil || cli.ExitStatus(err) != want || strings.Contains(out, "chain valid") {
				t.Errorf("verify %s %s: status %d, %v, printed %q", flag, path, cli.ExitStatus(err), err, out)
			}
		}
	}
}
