package masterapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
)

// TestUsersCannotTakeTheRoomOfNodes checks that the bodies of nodes and of the administrator are read while those of
// users hold all bytes that users may.
func TestUsersCannotTakeTheRoomOfNodes(t *testing.T) {
	m := &master{
		Engine: httpapi.New(hclog.NewNullLogger()), cluster: httpapi.NewSecret("cluster"),
		admin: httpapi.NewSecret("admin"), users: httpapi.NewIntake(0, 0), masters: httpapi.NewIntake(1<<20, 1<<20),
	}
	m.Use(m.trackBody)
	read := func(c *gin.Context) error {
		_, err := httpapi.ReadBody(c.Request, 1<<10)
		return err
	}
	m.nodeGroup().POST("/node", m.Do(read))
	m.POST("/admin", m.withAdmin(read))
	m.POST("/any", m.withAnyToken(read))
	for _, c := range []struct {
		path, token string
		want        int
	}{
		{"/node", "cluster", http.StatusOK},
		{"/admin", "admin", http.StatusOK},
		{"/any", "cluster", http.StatusOK},
	} {
		r := httptest.NewRequest(http.MethodPost, c.path, io.NopCloser(strings.NewReader("{}")))
		r.Header.Set("Authorization", "Bearer "+c.token)
		w := httptest.NewRecorder()
		if m.ServeHTTP(w, r); w.Code != c.want {
			t.Errorf("%s: status %d: %s", c.path, w.Code, w.Body)
		}
	}
	if held := m.masters.Held(); held != 0 {
		t.Errorf("%d bytes are held in the end", held)
	}
}
