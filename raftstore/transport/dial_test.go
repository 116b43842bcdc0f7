package transport

import (
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
)

// unused returns an address at which no process listens.
func unused(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

// An announcement reaches a member at the given address, and at the one where it was seen last unless the given one is
// exact. Both sides keep the other's start then, until they forget it.
func TestAnnounceTo(t *testing.T) {
	a, stale := streamAtLevel(t, "a", 1)
	b, _ := streamAtLevel(t, "b", 1)
	right, wrong := b.cfg.Listener.Addr().String(), unused(t)
	if err := a.AnnounceTo(patience(t), "b", wrong, false); err == nil {
		t.Error("announced at an address where no member listens")
	}
	a.SetAddress("b", right)
	if err := a.AnnounceTo(patience(t), "b", wrong, true); err == nil {
		t.Error("announced at another address than the exact one")
	}
	if a.cfg.Starts.AcceptedBy("b") {
		t.Error("the start is known to a member that was not reached")
	}
	if err := a.AnnounceTo(patience(t), "b", wrong, false); err != nil {
		t.Errorf("where it was seen last: %v", err)
	}
	if !a.cfg.Starts.AcceptedBy("b") || !b.cfg.Starts.AcceptedBy("a") ||
		a.cfg.Starts.lastOf("b") != present(t, b.cfg.Starts) || b.cfg.Starts.lastOf("a") != present(t, a.cfg.Starts) {
		t.Error("the starts are not exchanged")
	}
	a.SetAddress("b", wrong)
	if err := a.AnnounceTo(patience(t), "b", right, false); err != nil {
		t.Errorf("at the given address, where that of last time is out of date: %v", err)
	}
	if stale.Load() != 0 {
		t.Error("the folder counts as stale")
	}
	if members := slices.Collect(maps.Keys(a.cfg.Starts.peers)); !slices.Equal(members, []string{"b"}) {
		t.Errorf("starts of %v", members)
	}
	for _, gone := range []string{"c", "b"} {
		if err := a.cfg.Starts.Forget(func(member string) bool { return member == gone }); err != nil {
			t.Fatal(err)
		}
		if kept := len(a.cfg.Starts.reopened(t).peers) == 1; kept == (gone == "b") {
			t.Errorf("after %s is forgotten: %v", gone, slices.Collect(maps.Keys(a.cfg.Starts.peers)))
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.AnnounceTo(patience(t), "b", right, false); err == nil {
		t.Error("a closed stream dials")
	}
}

// A copy of a member's folder that is started beside it is refused, whichever side dials, and the member is not.
func TestSecondCopy(t *testing.T) {
	for name, dial := range map[string]func(t *testing.T, peer, other *Stream) error{
		"it dials":      func(t *testing.T, peer, other *Stream) error { return other.refusal(t, peer.address()) },
		"it is dialled": func(t *testing.T, peer, other *Stream) error { return peer.refusal(t, other.address()) },
	} {
		t.Run(name, func(t *testing.T) {
			peer, peerStale := streamAtLevel(t, "a", 1)
			original, originalStale := streamAtLevel(t, "b", 1)
			connectOnce(t, original, peer)
			peer.SetAddress("b", original.cfg.Listener.Addr().String())

			data, err := os.ReadFile(original.cfg.Starts.path)
			path := filepath.Join(t.TempDir(), "starts")
			if err = errors.Join(err, os.WriteFile(path, data, 0o600)); err != nil {
				t.Fatal(err)
			}
			starts, err := OpenStarts(path, true)
			if err != nil {
				t.Fatal(err)
			}
			refused := make(chan error, 1)
			other := openStreamOn(t, starts, "b", "g", testToken, 1, func(err error) {
				select {
				case refused <- err:
				default:
				}
			})
			if err := dial(t, peer, other); !errors.Is(err, errHandshake) {
				t.Fatal(err)
			}
			select {
			case err := <-refused:
				if !errors.Is(err, errSecondCopy) {
					t.Errorf("it is refused for another reason: %v", err)
				}
			case <-patience(t).Done():
				t.Fatal("it does not find out that it is a second copy")
			}
			if peerStale.Load() != 0 || originalStale.Load() != 0 ||
				peer.cfg.Starts.lastOf("b") != present(t, original.cfg.Starts) {
				t.Error("the others are affected")
			}
			connectOnce(t, original, peer)
		})
	}
}

// A member that has applied a raised level answers the probe of one that has not, and so is not taken for gone.
func TestProbeOfHigherLevel(t *testing.T) {
	a, _ := streamAtLevel(t, "a", 1)
	b, _ := streamAtLevel(t, "b", masterfsm.ProtocolLevel)
	if got := a.probe("b", b.cfg.Listener.Addr().String()); got != present(t, b.cfg.Starts) {
		t.Errorf("%v runs, want %v", got, present(t, b.cfg.Starts))
	}
}

// A probe returns the start that runs at an address, and the zero start where no member of that id answers.
func TestProbe(t *testing.T) {
	a, _ := streamAtLevel(t, "a", 1)
	b, _ := streamAtLevel(t, "b", 1)
	address := b.cfg.Listener.Addr().String()
	if got := a.probe("b", address); got != present(t, b.cfg.Starts) {
		t.Errorf("%v runs, want %v", got, present(t, b.cfg.Starts))
	}
	silent := script(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	begin := time.Now()
	for _, c := range [][2]string{{"c", address}, {"b", unused(t)}, {"b", silent}} {
		if got := a.probe(c[0], c[1]); got != (Start{}) {
			t.Errorf("%v runs as %s at %s", got, c[0], c[1])
		}
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("a silent process delays the probe by %v", took)
	}
	if b.cfg.Starts.lastOf("a") != (Start{}) {
		t.Error("a probe is taken for an announcement")
	}
}
