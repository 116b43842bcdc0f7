package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// streamAtLevel returns a stream whose group is at a protocol level. stale counts how often it found its folder stale.
func streamAtLevel(t *testing.T, self string, level uint64) (s *Stream, stale *atomic.Int64) {
	t.Helper()
	stale = &atomic.Int64{}
	return openStream(t, self, "g", testToken, level, func(error) { stale.Add(1) }), stale
}

// connectOnce opens a connection from a to b and closes it.
func connectOnce(t *testing.T, a, b *Stream) {
	t.Helper()
	conn, err := a.Dial(b.address(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Close(), other.Close()
}

// Masters of both versions connect while the group is at level 0. One that knows of level 1 refuses version 1, but is
// accepted by one that does not know of it yet.
func TestHandshakeVersions(t *testing.T) {
	a, _ := streamAtLevel(t, "a", 0)
	b, _ := streamAtLevel(t, "b", 0)
	c, _ := streamAtLevel(t, "c", 1)
	connectOnce(t, a, b)
	if a.cfg.Starts.lastOf("b") != (Start{}) || b.cfg.Starts.lastOf("a") != (Start{}) {
		t.Error("starts are exchanged at level 0")
	}
	if err := a.refusal(t, c.address()); !errors.Is(err, errHandshake) {
		t.Errorf("version 1 with a member of a group at level 1: %v", err)
	}
	connectOnce(t, c, a)
	if a.cfg.Starts.lastOf("c") != present(t, c.cfg.Starts) || c.cfg.Starts.lastOf("a") != present(t, a.cfg.Starts) {
		t.Error("the starts are not written down")
	}
	connectOnce(t, a, c) // a knows now that c speaks version 2
}

// Each side finds out that its folder is an older copy, whichever dials. The other side is not affected, and keeps the
// start that it had accepted.
func TestHandshakeWithAnOlderCopy(t *testing.T) {
	for name, dial := range map[string]func(t *testing.T, good, stale *Stream) error{
		"the older copy dials": func(t *testing.T, good, stale *Stream) error {
			return stale.refusal(t,
				good.address())
		},
		"the older copy is dialled": func(t *testing.T, good, stale *Stream) error {
			return good.refusal(t,
				stale.address())
		},
	} {
		t.Run(name, func(t *testing.T) {
			good, goodStale := streamAtLevel(t, "a", 1)
			stale, staleCount := streamAtLevel(t, "b", 1)
			newer := Start{id: [16]byte{7}, renewed: 2}
			if ok, err := good.cfg.Starts.accept("b", Start{}, newer); !ok || err != nil {
				t.Fatal(ok, err)
			}
			err := dial(t, good, stale)
			if !errors.Is(err, errHandshake) {
				t.Fatal(err)
			}
			ctx := patience(t)
			for staleCount.Load() == 0 {
				select {
				case <-ctx.Done():
					t.Fatal("it does not find out that its folder is an older copy")
				case <-time.After(time.Millisecond):
				}
			}
			if goodStale.Load() != 0 || good.cfg.Starts.lastOf("b") != newer ||
				stale.cfg.Starts.lastOf("a") != (Start{}) {
				t.Errorf("stale %d times; %v, %v", goodStale.Load(), good.cfg.Starts.lastOf("b"),
					stale.cfg.Starts.lastOf("a"))
			}
		})
	}
}

// A caller without the cluster token cannot make a master believe that its folder is an older copy, nor that another
// member has a new start.
func TestHandshakeWithoutToken(t *testing.T) {
	a, stale := streamAtLevel(t, "a", 1)
	known := Start{id: [16]byte{7}}
	if ok, err := a.cfg.Starts.accept("b", Start{}, known); !ok || err != nil {
		t.Fatal(ok, err)
	}
	wrong, err := NewKey("another token")
	if err != nil {
		t.Fatal(err)
	}
	claims := newStarts(t)
	claims.own = append([]Start{known}, claims.own...)
	claims.peers["a"] = Start{id: [16]byte{9}} // a start that a never had
	for _, verdict := range []byte{0, 1} {
		conn, err := net.Dial("tcp", a.cfg.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		raw, err := hello{group: "g", caller: "b", callee: "a"}.encode(helloVersionStarts)
		if err != nil {
			t.Fatal(err)
		}
		raw = claims.lastOf("a").appendTo(present(t, claims).appendTo(append(raw, purposeAnnounce)))
		if _, err := conn.Write(raw); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, nonceSize+2*startSize+macSize)
		if _, err := io.ReadFull(conn, answer); err != nil {
			t.Fatal(err)
		}
		raw = append(raw, answer[:len(answer)-macSize]...)
		if _, err := conn.Write(append([]byte{verdict}, wrong.mac("caller", raw, []byte{verdict})...)); err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(conn, make([]byte, 1)); err == nil {
			t.Errorf("it answers with %d bytes", n)
		}
		_ = conn.Close()
	}
	if stale.Load() != 0 || a.cfg.Starts.lastOf("b") != known {
		t.Errorf("a caller without the token was believed: stale %d times, b started as %v",
			stale.Load(), a.cfg.Starts.lastOf("b"))
	}
}

// A new start of a member closes the connections of the previous one, in both directions, and no others.
func TestNewStartEndsOldConnections(t *testing.T) {
	a, _ := streamAtLevel(t, "a", 1)
	b, _ := streamAtLevel(t, "b", 1)
	c, _ := streamAtLevel(t, "c", 1)
	var old, kept []net.Conn
	for _, x := range []struct {
		from, to *Stream
		conns    *[]net.Conn
	}{{b, a, &old}, {a, b, &old}, {c, a, &kept}} {
		conn, err := x.from.Dial(x.to.address(), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		other, err := x.to.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		defer other.Close()
		at := other
		if x.from == a {
			at = conn
		}
		*x.conns = append(*x.conns, at)
	}
	if err := begin(b.cfg.Starts); err != nil { // as if b had been restarted
		t.Fatal(err)
	}
	connectOnce(t, b, a)
	for _, conn := range old {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err == nil {
			_, err = conn.Read(make([]byte, 1))
			if !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
				t.Errorf("a connection of the start before it is open: %v", err)
			}
		} else if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	if err := kept[0].SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Errorf("another member's connection is closed: %v", err)
	}
}

func noFailedSync(string) KernelDigest { return KernelDigest{} }

func never(KernelDigest) bool { return false }

// TestHandshakeWithAFailedSync checks that a master learns from its peers that a sync of its folder failed under its
// kernel, whichever dials, before raft gets the connection.
func TestHandshakeWithAFailedSync(t *testing.T) {
	for _, dials := range []string{"a", "b"} {
		for level, stops := range map[uint64]bool{2: false, 3: true} {
			t.Run(fmt.Sprintf("%s dials at level %d", dials, level), func(t *testing.T) {
				a, _ := streamAtLevel(t, "a", level)
				b, _ := streamAtLevel(t, "b", level)
				kernel := DigestKernel("boot id")
				failed := make(chan error, 10)
				a.cfg.FailedSyncOf = func(member string) (of KernelDigest) {
					if member == "b" {
						of = kernel
					}
					return of
				}
				b.cfg.MustStop = func(k KernelDigest) bool { return k == kernel }
				b.cfg.Failed = func(err error) { failed <- err }
				from, to := a, b
				if dials == "b" {
					from, to = b, a
				}
				if !stops {
					connectOnce(t, from, to)
					return
				}
				if err := from.refusal(t, to.address()); !errors.Is(err, errHandshake) {
					t.Errorf("connected: %v", err)
				}
				if err := <-failed; !errors.Is(err, ErrFailedSync) {
					t.Error(err)
				}
				// It may take part under another kernel.
				b.cfg.MustStop = never
				connectOnce(t, from, to)
			})
		}
	}
}
