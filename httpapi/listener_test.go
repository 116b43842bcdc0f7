package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/nodeauth"
)

// limited is a listener under test, without a network.
type limited struct {
	*Listener
	t *testing.T
}

func newLimited(t *testing.T, total, perAddress int) limited {
	l := Limit(nil, ConnectionLimits{Total: total, PerAddress: perAddress}, hclog.NewNullLogger())
	return limited{l, t}
}

// from admits a connection from an address. It returns the one that it replaces, and whether there was room.
func (l limited) from(addr string) (c, replaced *connection, ok bool) {
	here, there := net.Pipe()
	l.t.Cleanup(func() { _, _ = here.Close(), there.Close() })
	c = &connection{Conn: here, listener: l.Listener, host: counted(netip.MustParseAddr(addr))}
	replaced, ok = l.admit(c)
	return c, replaced, ok
}

// fill admits n connections with a standing, for which there is room.
func (l limited) fill(n int, addr string, s Standing) (all []*connection) {
	for range n {
		c, replaced, ok := l.from(addr)
		if replaced != nil || !ok {
			l.t.Fatalf("no room after %d connections from %s", len(all), addr)
		}
		l.raise(c, s)
		all = append(all, c)
	}
	return all
}

func TestListenerReplaces(t *testing.T) {
	l := newLimited(t, 16, 8)
	a := l.fill(8, "192.0.2.1", Stranger)
	if _, replaced, ok := l.from("192.0.2.1"); replaced != a[0] || !ok {
		t.Error("the oldest of an address with too many is not replaced")
	}
	b := l.fill(8, "192.0.2.2", Stranger)
	l.raise(a[1], User)
	if _, replaced, ok := l.from("192.0.2.3"); replaced != a[2] || !ok {
		t.Error("the oldest without a token is not replaced")
	}
	_ = b[3].Close()
	_ = b[3].Close() // as net/http does
	if _, replaced, ok := l.from("192.0.2.3"); replaced != nil || !ok {
		t.Error("no room after one was closed")
	}
	if c := l.Connections(); c.Open != 16 || c.Closed != 2 || c.Refused != 0 {
		t.Errorf("%+v", c)
	}
}

// TestListenerKeepsRoom checks that neither users nor connections without a token keep out a node, and that what nodes
// have is not replaced.
func TestListenerKeepsRoom(t *testing.T) {
	l := newLimited(t, 16, 16)
	users := l.fill(16, "192.0.2.1", User)
	for i, c := range users {
		if kept := Standing(c.standing.Load()) == User; kept != (i < 14) {
			t.Errorf("connection %d of a user is kept: %v", i, kept)
		}
	}
	node, replaced, ok := l.from("192.0.2.2")
	if replaced != users[14] || !ok {
		t.Fatal("a node does not get in")
	}
	l.raise(node, Node)
	for range 32 {
		if _, replaced, ok := l.from("192.0.2.1"); replaced == node || !ok {
			t.Fatal("a node's connection was replaced")
		}
	}
	if len(l.addresses) != 1 {
		t.Errorf("%d addresses are counted: those of nodes are not", len(l.addresses))
	}
	for _, c := range users {
		_ = c.Close()
	}
	_ = node.Close()
	if l.users != 0 || l.open != 1 || l.strangers.Len() != 1 {
		t.Errorf("%d users, %d open, %d without a token", l.users, l.open, l.strangers.Len())
	}
}

func TestListenerRefuses(t *testing.T) {
	l := newLimited(t, 8, 2)
	l.fill(8, "192.0.2.1", Node)
	if _, replaced, ok := l.from("192.0.2.2"); replaced != nil || ok {
		t.Error("there was no room")
	}
	l = newLimited(t, 8, 1)
	l.fill(1, "192.0.2.1", User)
	if _, _, ok := l.from("192.0.2.1"); !ok {
		t.Error("one connection for each address: a token must not keep it for good")
	}
	if len(l.addresses) != 1 || l.Connections().Closed != 1 {
		t.Errorf("%d addresses, %+v", len(l.addresses), l.Connections())
	}
}

func TestCountedAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64",
		"fe80::1%eth0": "fe80::/64",
	} {
		if got := counted(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
}

// takesBearers are the nodes that may send a token.
func takesBearers(token string) *Nodes {
	return &Nodes{
		Accept:  map[string]nodeauth.Accepted{nodeauth.Masters: {Secret: nodeauth.NewSecret(token)}},
		Bearers: func() bool { return true },
	}
}

// TestServerKeepsConnections checks that the connection of a node survives many connections without a token, and that
// another node gets in.
func TestServerKeepsConnections(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Limit(plain, ConnectionLimits{Total: 4, PerAddress: 3}, hclog.NewNullLogger())
	e := New(hclog.NewNullLogger())
	e.GET("/", e.Requires(takesBearers("secret"), nodeauth.Masters), e.Do(answers))
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, e, hclog.NewNullLogger()) }()
	call := func(c *http.Client) {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+plain.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer secret")
		answer, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatal(answer.Status, err)
		}
	}
	var dials atomic.Int32
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	node := &http.Client{Transport: &http.Transport{DialContext: dial}}
	for range 3 {
		call(node)
		for range 10 {
			c, err := net.Dial("tcp", plain.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		call(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}})
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("the node's connection was opened %d times", n)
	}
	if c := l.Connections(); c.Open > 4 || c.Closed < 20 || c.Refused != 0 {
		t.Errorf("%+v", c)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// exhausted is a listener that has no descriptor for its first connection.
type exhausted struct {
	net.Listener
	calls int
}

func (e *exhausted) Accept() (net.Conn, error) {
	e.calls++
	if e.calls == 1 {
		return nil, fmt.Errorf("accept: %w", syscall.EMFILE)
	}
	return nil, net.ErrClosed
}

// TestListenerWithoutDescriptors checks that a server that has no descriptors left closes the oldest connection
// without a token.
func TestListenerWithoutDescriptors(t *testing.T) {
	l := newLimited(t, 8, 8)
	l.Listener.Listener = &exhausted{}
	user := l.fill(1, "192.0.2.1", User)[0]
	others := l.fill(2, "192.0.2.1", Stranger)
	if _, err := l.Accept(); !errors.Is(err, syscall.EMFILE) {
		t.Fatal(err)
	}
	for c, want := range map[*connection]error{user: nil, others[0]: net.ErrClosed, others[1]: nil} {
		if c.counted != (want == nil) {
			t.Errorf("counted: %v, want %v", c.counted, want)
		}
	}
	if c := l.Connections(); c.Open != 2 || c.Closed != 1 {
		t.Errorf("%+v", c)
	}
}
