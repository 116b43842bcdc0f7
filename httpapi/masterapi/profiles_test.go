package masterapi_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestProfiles takes a profile of every node of a cluster through each master, by its id or its URL, and checks what is
// refused. All nodes run in this process, so it takes one profile at a time.
func TestProfiles(t *testing.T) {
	c := startCluster(t)
	admin := c.file.Tokens.Admin
	taken := func(name string, data []byte, has string) {
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if text, err := io.ReadAll(r); err != nil || !bytes.Contains(text, []byte(has)) {
			t.Errorf("%s: %v; %d bytes without %q", name, err, len(text), has)
		}
	}
	ask := func(i int, body string, status int, problem string) []byte {
		t.Helper()
		_, data := c.do(i, request{name: body, method: "POST", path: "/v1/profiles", token: admin, body: body,
			headers: map[string]string{"Content-Type": "application/json"}, status: status, problem: problem})
		return data
	}
	const ours = "chainstore" // in the name of a function
	for i, role := range c.roles {
		body := fmt.Sprintf(`{"node":%q,"kind":"goroutine"}`, role.URL())
		taken(role.Name, ask(i, body, http.StatusOK, ""), ours)
	}
	taken("this master", ask(1, `{"kind":"heap"}`, http.StatusOK, ""), ours)

	ask(0, `{"kind":"goroutine","node":"nobody"}`, http.StatusNotFound, "not-found")
	ask(0, `{"kind":"heap","node":"http://127.0.0.1:1"}`, http.StatusNotFound, "not-found")
	// One of two is refused while the other is taken.
	statuses := make(chan int, 2)
	began := time.Now()
	for i := range 2 {
		go func() {
			status, data := c.profile(i, `{"kind":"cpu","seconds":2}`)
			if status == http.StatusOK {
				taken("cpu", data, "nanoseconds") // a process that does nothing has no samples
			}
			statuses <- status
		}()
	}
	first, second := <-statuses, <-statuses
	if took := time.Since(began); first+second != http.StatusOK+http.StatusConflict || took < 2*time.Second {
		t.Errorf("two profiles of 2 s at the same time: %d and %d after %v", first, second, took)
	}
}

// profile asks master i for a profile, and returns the status and the answer.
func (c *cluster) profile(i int, body string) (int, []byte) {
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.file.Masters[i]+"/v1/profiles",
		strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+c.file.Tokens.Admin)
	req.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Error(err)
		return 0, nil
	}
	data, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		c.t.Error(err)
	}
	return answer.StatusCode, data
}
