package transport

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

func TestGate(t *testing.T) {
	member, stranger := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	now := time.Now()
	for _, c := range []struct {
		name string
		do   func(g *gate, enter func(host netip.Addr, isMember bool) *conn) (got, want *conn)
	}{
		{"room for a member", func(g *gate, enter func(netip.Addr, bool) *conn) (got, want *conn) {
			for range maxFromMembers {
				if c := enter(member, true); c != nil {
					return c, nil
				}
			}
			return nil, nil
		}},
		{"the oldest of a member's address", func(g *gate, enter func(netip.Addr, bool) *conn) (got, want *conn) {
			first := fill(g, enter, member, true, maxFromMembers)
			return enter(member, true), first
		}},
		{"the oldest that sent no hello", func(g *gate, enter func(netip.Addr, bool) *conn) (got, want *conn) {
			fill(g, enter, member, true, maxFromMembers)
			g.greeted(g.members[0].conn)
			g.greeted(g.members[1].conn)
			want = g.members[2].conn
			return enter(member, true), want
		}},
		{"the oldest hello", func(g *gate, enter func(netip.Addr, bool) *conn) (got, want *conn) {
			first := fill(g, enter, member, true, maxFromMembers)
			for _, a := range g.members {
				g.greeted(a.conn)
			}
			return enter(member, true), first
		}},
		{"one that left", func(g *gate, enter func(netip.Addr, bool) *conn) (got, want *conn) {
			g.leave(fill(g, enter, member, true, maxFromMembers))
			return enter(member, true), nil
		}},
		{"an address with too many", func(g *gate, enter func(netip.Addr, bool) *conn) (got, want *conn) {
			fill(g, enter, netip.MustParseAddr("192.0.2.3"), false, 1)
			first := fill(g, enter, stranger, false, maxFromOther)
			return enter(stranger, false), first
		}},
		{"a network with too many", func(g *gate, enter func(netip.Addr, bool) *conn) (got, want *conn) {
			for i := range maxFromOther {
				enter(netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i)), false)
			}
			want = g.others[0].conn
			return enter(netip.MustParseAddr("2001:db8::ffff"), false), want
		}},
		{"the host with the most hellos", func(g *gate, enter func(netip.Addr, bool) *conn) (got, want *conn) {
			fill(g, enter, netip.MustParseAddr("192.0.2.4"), true, maxFromMembers/4)
			want = fill(g, enter, netip.MustParseAddr("192.0.2.5"), true, maxFromMembers/2)
			fill(g, enter, netip.MustParseAddr("192.0.2.6"), true, maxFromMembers/4)
			for _, a := range g.members {
				g.greeted(a.conn)
			}
			return enter(member, true), want
		}},
		{"the host with the most silent ones", func(g *gate, enter func(netip.Addr, bool) *conn) (got, want *conn) {
			fill(g, enter, netip.MustParseAddr("192.0.2.4"), true, maxFromMembers/4)
			want = fill(g, enter, netip.MustParseAddr("192.0.2.5"), true, 3*maxFromMembers/4)
			return enter(member, true), want
		}},
		{"many addresses", func(g *gate, enter func(netip.Addr, bool) *conn) (got, want *conn) {
			for i := range maxFromOthers {
				enter(netip.MustParseAddr(fmt.Sprintf("198.51.100.%d", i)), false)
			}
			first := g.others[0].conn
			return enter(stranger, false), first
		}},
		{"the capacity of members", func(g *gate, enter func(netip.Addr, bool) *conn) (got, want *conn) {
			for i := range 2 * maxFromOthers {
				enter(netip.MustParseAddr(fmt.Sprintf("198.51.100.%d", i)), false)
			}
			return enter(member, true), nil
		}},
	} {
		g := &gate{}
		got, want := c.do(g, func(host netip.Addr, isMember bool) *conn {
			return g.enter(&conn{}, host, isMember, now)
		})
		if got != want {
			t.Errorf("%s: another connection was replaced", c.name)
		}
		if len(g.members) > maxFromMembers || len(g.others) > maxFromOthers {
			t.Errorf("%s: %d and %d handshakes", c.name, len(g.members), len(g.others))
		}
	}
}

// fill lets n connections enter and returns the first.
func fill(g *gate, enter func(netip.Addr, bool) *conn, host netip.Addr, isMember bool, n int) *conn {
	list := &g.others
	if isMember {
		list = &g.members
	}
	at := len(*list)
	for range n {
		enter(host, isMember)
	}
	return (*list)[at].conn
}

// pipes is a listener whose connections are pipes.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return streamAddr("pipes") }

// TestTimeOfAHandshake checks that a connection that sends nothing is closed early, and that one with a valid hello has
// more time.
func TestTimeOfAHandshake(t *testing.T) {
	valid, err := hello{group: "g", caller: "a", callee: "b"}.encode(helloVersionStarts)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := hello{group: "h", caller: "a", callee: "b"}.encode(helloVersionStarts)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		sent []byte
		want time.Duration
	}{
		"nothing": {nil, helloTime}, "half a hello": {valid[:helloHead], helloTime}, "a hello": {valid, handshakeTime},
		"another group": {foreign, 0},
	} {
		t.Run(name, func(t *testing.T) {
			starts := newStarts(t)
			synctest.Test(t, func(t *testing.T) {
				listener := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
				s := New(Config{
					Listener: listener, Self: "b", Advertise: "pipes", Keys: keys(Key("k")), Starts: starts,
					Level: func() uint64 { return 1 }, AddressOf: func(string) string { return "" },
					Addresses:    func() []string { return nil },
					FailedSyncOf: noFailedSync, MustStop: never, Log: hclog.NewNullLogger(),
				})
				s.Open("g")
				here, there := net.Pipe()
				listener.conns <- here
				began := time.Now()
				_, _ = there.Write(c.sent)
				if _, err := io.Copy(io.Discard, there); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took != c.want {
					t.Errorf("closed after %v, want %v", took, c.want)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestAddressesOfMembers checks which addresses count as those of members.
func TestAddressesOfMembers(t *testing.T) {
	a, b := testStream(t, "a", "g", testToken), testStream(t, "b", "g", testToken)
	loopback := netip.MustParseAddr("127.0.0.1")
	if a.isMembers(loopback) || b.isMembers(loopback) || a.isMembers(netip.Addr{}) {
		t.Error("an address counts before a member was there")
	}
	c, err := a.Dial(b.address(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d, err := b.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if !a.isMembers(loopback) || !b.isMembers(loopback) {
		t.Error("an address from which a member proved the token does not count")
	}
	a.SetAddress("c", "192.0.2.1:1")
	configured := map[string]string{"b": b.addr.String(), "c": "master-3:8010"}
	a.cfg.AddressOf = func(member string) string { return configured[member] }
	a.cfg.Addresses = func() []string { return []string{"master-3:8010", "[2001:db8::1]:8010"} }
	for _, host := range []string{"192.0.2.1", "2001:db8::1"} {
		if !a.isMembers(netip.MustParseAddr(host)) {
			t.Errorf("%s does not count", host)
		}
	}
	if a.isMembers(netip.Addr{}) {
		t.Error("a host name stands for every unknown address")
	}
	if !a.isMembers(loopback) {
		t.Error("the address of a member does not count")
	}
	delete(configured, "b")
	delete(configured, "c")
	for _, host := range []string{"192.0.2.1", "127.0.0.1"} {
		if a.isMembers(netip.MustParseAddr(host)) {
			t.Errorf("%s, of a member that was removed, counts", host)
		}
	}
	configured["d"] = "192.0.2.9:1"
	a.learnHost(c.(*outgoing).conn, "d")
	if len(a.proven) != 1 {
		t.Errorf("addresses of removed members are kept: %v", a.proven)
	}
}
