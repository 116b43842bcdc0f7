package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const testToken = "the cluster token of the tests"

// patience bounds what a test waits for.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// testStream returns a stream at protocol level 0 that fails the test when it finds its folder stale. It is open for a
// group unless group is "".
func testStream(t testing.TB, self, group, token string) *Stream {
	t.Helper()
	return openStream(t, self, group, token, 0, func(err error) { t.Error(err) })
}

func openStream(t testing.TB, self, group, token string, level uint64, stale func(error)) *Stream {
	t.Helper()
	return openStreamOn(t, newStarts(t), self, group, token, level, stale)
}

// openStreamOn opens a stream on a file of starts.
func openStreamOn(t testing.TB, starts *Starts, self, group, token string, level uint64, stale func(error)) *Stream {
	t.Helper()
	key, err := NewKey(token)
	if err != nil {
		t.Fatal(err)
	}
	return openStreamWith(t, starts, self, group, keys(key), level, stale)
}

// openStreamWith opens a stream whose keys may change.
func openStreamWith(
	t testing.TB, starts *Starts, self, group string, keys func() []Key, level uint64, stale func(error),
) *Stream {
	t.Helper()
	listener, advertise, err := Listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{
		Listener: listener, Self: self, Advertise: advertise, Keys: keys, Starts: starts,
		Level: func() uint64 { return level }, AddressOf: func(string) string { return "" },
		Addresses: func() []string { return nil }, FailedSyncOf: noFailedSync, MustStop: never,
		Term: func() (uint64, bool) { return 7, true }, Stale: stale,
		Failed: func(err error) { t.Error(err) }, Log: hclog.NewNullLogger(),
	})
	s.Open(group)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// keys returns the keys of a stream whose secret does not change.
func keys(list ...Key) func() []Key { return func() []Key { return list } }

func (s *Stream) address() raft.ServerAddress { return raft.ServerAddress(s.addr) }

// refusal dials until the other side refuses, and returns the refusal. An attempt that timed out does not count: on a
// busy machine the other side may not have run yet.
func (s *Stream) refusal(t *testing.T, address raft.ServerAddress) error {
	t.Helper()
	member, hostPort, err := SplitAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx := patience(t)
	for {
		conn, err := s.dialOnce(ctx, member, hostPort, purposeRaft)
		if err == nil {
			t.Fatal("connected", conn.Close())
		}
		var netErr net.Error
		if !errors.As(err, &netErr) || !netErr.Timeout() || ctx.Err() != nil {
			return err
		}
	}
}

// script starts a listener that passes its connections to the functions in turn, and all further ones to the last.
func script(t *testing.T, turns ...func(net.Conn)) (hostPort string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			turns[min(i, len(turns)-1)](conn)
		}
	}()
	return listener.Addr().String()
}

func TestStream(t *testing.T) {
	a, b := testStream(t, "a", "g", testToken), testStream(t, "b", "g", testToken)
	c, err := a.Dial(b.address(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	d, err := b.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var got [5]byte
	if _, err := io.ReadFull(d, got[:]); err != nil || string(got[:]) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
	if a.Unreachable("b") {
		t.Error("b was reached and counts as unreachable")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(got[:]); err == nil {
		t.Error("a closed stream left a connection open")
	}
	if _, err := b.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed stream: %v", err)
	}
	if _, err := a.Dial(b.address(), 60*time.Millisecond); err == nil || !a.Unreachable("b") {
		t.Errorf("dial of a closed stream: %v", err)
	}
}

func TestStreamRefuses(t *testing.T) {
	callee := testStream(t, "b", "g", testToken)
	fresh := testStream(t, "c", "", testToken)
	go func() {
		if _, err := callee.Accept(); err == nil {
			t.Error("a connection came through")
		}
	}()
	for name, dial := range map[string]func(t *testing.T) error{
		"wrong token": func(t *testing.T) error {
			return testStream(t, "a", "g", "another token").refusal(t, callee.address())
		},
		"other group": func(t *testing.T) error {
			return testStream(t, "a", "h", testToken).refusal(t,
				callee.address())
		},
		"wrong member meant": func(t *testing.T) error {
			wiped := ServerAddress("wiped", callee.cfg.Listener.Addr().String())
			return testStream(t, "a", "g", testToken).refusal(t, wiped)
		},
		"the callee itself": func(t *testing.T) error { return callee.refusal(t, callee.address()) },
		"callee is new": func(t *testing.T) error {
			return testStream(t, "a", "g", testToken).refusal(t,
				fresh.address())
		},
		"caller is new": func(t *testing.T) error { return fresh.refusal(t, callee.address()) },
	} {
		t.Run(name, func(t *testing.T) {
			err := dial(t)
			if !errors.Is(err, errHandshake) {
				t.Errorf("%v", err)
			}
			if strings.Contains(err.Error(), testToken) {
				t.Errorf("the token is in %q", err)
			}
		})
	}
	if _, err := callee.Dial("no address", time.Second); err == nil {
		t.Error("dialled an address without a member")
	}
}

// A dial that is refused, retries and then times out reports the refusal. The timeout of the last attempt alone would
// hide the reason from the operator.
func TestStreamDialReportsRefusal(t *testing.T) {
	a := testStream(t, "a", "g", testToken)
	for timeout := 100 * time.Millisecond; ; timeout *= 2 {
		var second atomic.Bool
		hostPort := script(t,
			func(conn net.Conn) { _, _ = conn.Write(make([]byte, nonceSize+macSize)) }, // not the proof of the token
			func(net.Conn) { second.Store(true) },                                      // silent
		)
		_, err := a.Dial(ServerAddress("b", hostPort), timeout)
		if err == nil {
			t.Fatal("connected")
		}
		if !second.Load() && timeout < time.Minute {
			continue // this machine is too busy to be refused in that time
		}
		var netErr net.Error
		if !strings.Contains(err.Error(), "another cluster token") || !errors.As(err, &netErr) || !netErr.Timeout() {
			t.Errorf("refused once, then not answered: %v", err)
		}
		return
	}
}

// A master that does not answer in time has not refused: its answer is not known.
func TestStreamSilentCallee(t *testing.T) {
	a := testStream(t, "a", "g", testToken)
	_, err := a.Dial(ServerAddress("b", script(t, func(net.Conn) {})), 100*time.Millisecond)
	var netErr net.Error
	if !errors.As(err, &netErr) || !netErr.Timeout() || errors.Is(err, errHandshake) {
		t.Errorf("dial of a silent master: %v", err)
	}
}

// Silent connections do not delay others.
func TestStreamSilentCaller(t *testing.T) {
	a, b := testStream(t, "a", "g", testToken), testStream(t, "b", "g", testToken)
	for range 10 {
		silent, err := net.Dial("tcp", b.cfg.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
	}
	conn, err := a.Dial(b.address(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := b.Accept(); err != nil {
		t.Fatal(err)
	}
}

// A dial reaches a stream that opens meanwhile.
func TestStreamDialWaits(t *testing.T) {
	a, b := testStream(t, "a", "g", testToken), testStream(t, "b", "", testToken)
	done := make(chan error, 1)
	go func() {
		_, err := a.Dial(b.address(), 20*time.Second)
		done <- err
	}()
	b.Open("g")
	if _, err := b.Accept(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A disabled stream stays disabled: a refusal may come while the store opens it, and while a connection is dialled.
func TestDisableIsFinal(t *testing.T) {
	a, _ := streamAtLevel(t, "a", 1)
	b, _ := streamAtLevel(t, "b", 1)
	a.Disable()
	a.Open("g")
	a.OpenForAnnouncements("g")
	if group, raftOpen := a.current(); group != "" || raftOpen {
		t.Errorf("open after it was disabled: %q, %v", group, raftOpen)
	}
	if conn, err := a.Dial(b.address(), 50*time.Millisecond); err == nil {
		t.Error("it dials", conn.Close())
	}
	near, far := net.Pipe()
	defer far.Close()
	if _, err := a.track(near, "", false); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a connection that was being dialled: %v", err)
	}
	if err := b.refusal(t, a.address()); !errors.Is(err, errHandshake) {
		t.Errorf("it takes connections: %v", err)
	}
}

// A dial that fails while another connection to the member works does not make it unreachable.
func TestUnreachable(t *testing.T) {
	a, b := testStream(t, "a", "g", testToken), testStream(t, "b", "g", testToken)
	var cut atomic.Bool
	a.cfg.Dial = func(ctx context.Context, network, hostPort string) (net.Conn, error) {
		if cut.Load() {
			return nil, errors.New("no way to it")
		}
		return (&net.Dialer{}).DialContext(ctx, network, hostPort)
	}
	c, err := a.Dial(b.address(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	d, err := b.Accept()
	if err != nil {
		t.Fatal(err)
	}
	answer := func() {
		t.Helper()
		if _, err := d.Write([]byte("1")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	cut.Store(true)
	if _, err := a.Dial(b.address(), 10*time.Millisecond); err == nil || !a.Unreachable("b") {
		t.Errorf("after a failed dial: %v, unreachable %v", err, a.Unreachable("b"))
	}
	if answer(); a.Unreachable("b") {
		t.Error("b has answered and counts as unreachable")
	}
	if _, err := a.Dial(b.address(), 10*time.Millisecond); err == nil || !a.Unreachable("b") {
		t.Errorf("after another failed dial: %v, unreachable %v", err, a.Unreachable("b"))
	}
	cut.Store(false)
	again, err := a.Dial(b.address(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Accept(); err != nil || a.Unreachable("b") {
		t.Errorf("after a dial: %v, unreachable %v", err, a.Unreachable("b"))
	}
	if err := errors.Join(c.Close(), again.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
}

// An attempt that began before the last answer of the member says nothing, even if it fails after it.
func TestUnreachableWhileDialling(t *testing.T) {
	c := &contact{}
	began := time.Now()
	c.answered()
	c.failed(began.Add(-time.Second))
	if c.lost() {
		t.Error("a dial that failed late counts")
	}
	c.failed(time.Now().Add(time.Second))
	if !c.lost() {
		t.Error("a dial that began after the last answer does not count")
	}
}
