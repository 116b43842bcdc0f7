package masterapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// TestUsersCannotTakeTheRoomOfNodes checks that the bodies of nodes and of the administrator are read while those of
// users hold all bytes that users may.
func TestUsersCannotTakeTheRoomOfNodes(t *testing.T) {
	m := &master{
		Engine: httpapi.New(hclog.NewNullLogger()), cluster: nodeauth.NewSecret("cluster"),
		admin: httpapi.NewSecret("admin"), unowned: httpapi.NewIntake(0, 0), users: httpapi.NewIntake(0, 0),
		masters: httpapi.NewNodeIntake(1 << 20),
	}
	m.Use(m.unowned.TrackAll)
	read := func(c *gin.Context) error {
		_, err := httpapi.ReadBody(c.Request, 1<<10)
		return err
	}
	m.Group("/", m.Requires(takesBearers("cluster"), nodeauth.Masters), m.fromNode).POST("/node", m.Do(read))
	m.POST("/admin", m.withRole(wire.RoleAdmin, read))
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

// takesBearers are the nodes that may send a token.
func takesBearers(token string) *httpapi.Nodes {
	return &httpapi.Nodes{
		Accept:  map[string]nodeauth.Accepted{nodeauth.Masters: {Secret: nodeauth.NewSecret(token)}},
		Bearers: func() bool { return true },
	}
}

// endless is a body of which some bytes have come, and more would.
type endless struct {
	come io.Reader
	held chan<- struct{} // gets a value when the bytes have been read
	end  <-chan struct{} // closed when the connection ends
}

func (b *endless) Read(p []byte) (int, error) {
	if n, err := b.come.Read(p); err == nil {
		return n, nil
	}
	b.held <- struct{}{}
	<-b.end
	return 0, io.ErrUnexpectedEOF
}

// TestOneNodeCannotTakeTheRoomOfOthers checks that one node that sends large bodies slowly, as many as it can, leaves
// room for the submissions of other masters, and that it leaves room for everyone's small bodies, its own included.
func TestOneNodeCannotTakeTheRoomOfOthers(t *testing.T) {
	const most = 1 << 20
	m := &master{
		Engine: httpapi.New(hclog.NewNullLogger()), cluster: nodeauth.NewSecret("cluster"),
		unowned: httpapi.NewIntake(0, 0), masters: httpapi.NewNodeIntake(most),
	}
	m.Use(m.unowned.TrackAll)
	held, refused, end := make(chan struct{}), make(chan struct{}, 8), make(chan struct{})
	nodes := m.Group("/", m.Requires(takesBearers("cluster"), nodeauth.Masters), m.fromNode)
	nodes.POST("/node", m.Do(func(c *gin.Context) error {
		_, err := httpapi.ReadBody(c.Request, most)
		if errors.Is(err, wire.ErrBacklog) {
			refused <- struct{}{}
			c.Request.Body = http.NoBody // the answer does not wait for the rest
		}
		return err
	}))
	send := func(from string, body io.Reader, length int64) int {
		r := httptest.NewRequest(http.MethodPost, "/node", io.NopCloser(body))
		r.Header.Set("Authorization", "Bearer cluster")
		r.RemoteAddr, r.ContentLength = from, length
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		return w.Code
	}
	answered := make(chan int, 8)
	for i := range 8 { // from other ports and addresses of its network
		go func() {
			come := strings.NewReader(strings.Repeat("x", most*3/4))
			body := &endless{come: come, held: held, end: end}
			answered <- send(fmt.Sprintf("[2001:db8::%d]:%d", i, i+1), body, most)
		}()
	}
	inFlight := 0
	for range 8 {
		select {
		case <-held:
			inFlight++
		case <-refused:
		}
	}
	if inFlight > 1 {
		t.Errorf("%d of 8 large bodies of one node are in flight", inFlight)
	}
	for _, c := range []struct {
		from   string
		length int
	}{
		{"[2001:db8:1::1]:1", most}, {"192.0.2.1:1", most}, {"192.0.2.1:1", 100}, {"[2001:db8::1]:99", 100},
	} {
		if status := send(c.from, strings.NewReader(strings.Repeat("x", c.length)), int64(c.length)); status != 200 {
			t.Errorf("%d bytes from %s: status %d", c.length, c.from, status)
		}
	}
	close(end)
	for range 8 {
		<-answered
	}
	if held := m.masters.Held(); held != 0 {
		t.Errorf("%d bytes are held in the end", held)
	}
}
