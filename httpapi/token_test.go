package httpapi

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/nodeauth"
)

// TestStrangersAreLogged checks that a node with the wrong token leaves a line in the log of the node that refused it,
// and that many of them leave few lines.
func TestStrangersAreLogged(t *testing.T) {
	var log bytes.Buffer
	e := New(hclog.New(&hclog.LoggerOptions{Output: &log}))
	e.GET("/x", e.Requires(takesBearers("right"), nodeauth.Masters),
		func(c *gin.Context) { c.Status(http.StatusNoContent) })
	ask := func(address, token string) int {
		r := httptest.NewRequest(http.MethodGet, "/x", nil)
		r.RemoteAddr = address
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		return w.Code
	}
	lines := func() int { return strings.Count(log.String(), "does not have their secret") }
	if code := ask("10.0.0.1:4000", "right"); code != http.StatusNoContent || lines() != 0 {
		t.Errorf("%d, %s", code, log.String())
	}
	for port := range 100 {
		if code := ask(fmt.Sprintf("10.0.0.1:%d", 4000+port), "wrong"); code != http.StatusUnauthorized {
			t.Error(code)
		}
	}
	if lines() != 1 || !strings.Contains(log.String(), "address=10.0.0.1 route=/x") ||
		strings.Contains(log.String(), "wrong") {
		t.Errorf("%s", log.String())
	}
	for host := range 250 {
		ask(fmt.Sprintf("10.0.1.%d:4000", host), "wrong")
	}
	if lines() != maxStrangers {
		t.Errorf("%d lines", lines())
	}
}
