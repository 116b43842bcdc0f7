package transport

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/certs/certstest"
)

// secureStream is testStream with TLS.
func secureStream(t *testing.T, self string, store TLS, level uint64) *Stream {
	t.Helper()
	return streamOf(t, Config{Self: self, TLS: store, Level: func() uint64 { return level }})
}

// streamOf opens a stream on a port of its own, with what its configuration has and defaults for the rest.
func streamOf(t *testing.T, cfg Config) *Stream {
	t.Helper()
	listener, advertise, err := Listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewKey(testToken)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener, cfg.Advertise, cfg.Keys, cfg.Starts = listener, advertise, keys(key), newStarts(t)
	cfg.AddressOf, cfg.Addresses = func(string) string { return "" }, func() []string { return nil }
	cfg.FailedSyncOf, cfg.MustStop, cfg.Log = noFailedSync, never, hclog.NewNullLogger()
	cfg.Term = func() (uint64, bool) { return 7, true }
	cfg.Stale, cfg.Failed = func(err error) { t.Error(err) }, func(err error) { t.Error(err) }
	s := New(cfg)
	s.Open("g")
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestTLS sends bytes through a connection with TLS, at the lowest and at a newer level of the protocol.
func TestTLS(t *testing.T) {
	authority := certstest.NewAuthority(t)
	for _, level := range []uint64{0, 1, 4} {
		a := secureStream(t, "a", certstest.Open(t, authority, certs.Master, "a"), level)
		b := secureStream(t, "b", certstest.Open(t, authority, certs.Master, "b"), level)
		out, err := a.Dial(b.address(), 20*time.Second)
		if err != nil {
			t.Fatalf("level %d: %v", level, err)
		}
		in, err := b.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		var got [5]byte
		if _, err := io.ReadFull(in, got[:]); err != nil || string(got[:]) != "hello" {
			t.Errorf("level %d: %q, %v", level, got, err)
		}
	}
}

// TestTLSRefuses connects sides that must not connect, although both have the cluster token.
func TestTLSRefuses(t *testing.T) {
	authority, other := certstest.NewAuthority(t), certstest.NewAuthority(t)
	secured := secureStream(t, "b", certstest.Open(t, authority, certs.Master, "b"), 1)
	plain := openStream(t, "p", "g", testToken, 1, func(err error) { t.Error(err) })
	if _, _, err := readHello(strings.NewReader("\x16\x03\x01" + strings.Repeat("x", helloHead))); err == nil ||
		!strings.Contains(err.Error(), "the caller speaks TLS") {
		t.Errorf("a hello of TLS: %v", err)
	}
	for _, s := range []*Stream{secured, plain} {
		go func() {
			if _, err := s.Accept(); err == nil {
				t.Error("a connection came through")
			}
		}()
	}
	for name, row := range map[string]struct {
		caller, callee *Stream
		text           string
	}{
		"in clear":            {openStream(t, "a", "g", testToken, 1, func(error) {}), secured, ""},
		"TLS to a plain port": {secureStream(t, "a", certstest.Open(t, authority, certs.Master, "a"), 1), plain, ""},
		"a storage node": {secureStream(t, "a", certstest.Open(t, authority, certs.Storage, "a"), 1), secured,
			"certificate"},
		"of another authority": {secureStream(t, "a", certstest.Open(t, other, certs.Master, "a"), 1), secured,
			"certificate"},
	} {
		if err := row.caller.refusal(t, row.callee.address()); !strings.Contains(err.Error(), row.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRelayedHandshakeFails puts a relay between two masters, as one that has the certificate of a master, but not the
// cluster token: it ends TLS on both sides, and passes on all bytes.
func TestRelayedHandshakeFails(t *testing.T) {
	authority := certstest.NewAuthority(t)
	for _, level := range []uint64{0, 1, 4} {
		a := secureStream(t, "a", certstest.Open(t, authority, certs.Master, "a"), level)
		b := secureStream(t, "b", certstest.Open(t, authority, certs.Master, "b"), level)
		go func() {
			if _, err := b.Accept(); err == nil {
				t.Error("a relayed connection came through")
			}
		}()
		relay := certstest.Open(t, authority, certs.Master, "relay")
		_, target, err := SplitAddress(b.address())
		if err != nil {
			t.Fatal(err)
		}
		address := script(t, func(plain net.Conn) {
			near := tls.Server(plain, relay.RaftServer())
			far, err := tls.Dial("tcp", target, relay.RaftClient("127.0.0.1"))
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { far.Close() })
			go func() {
				_, _ = io.Copy(far, near)
				_ = far.Close()
			}()
			go func() {
				_, _ = io.Copy(near, far)
				_ = near.Close()
			}()
		})
		if err := a.refusal(t, ServerAddress("b", address)); !strings.Contains(err.Error(), "another cluster token") &&
			!strings.Contains(err.Error(), "the other side is new") {
			t.Errorf("level %d: %v", level, err)
		}
	}
}
