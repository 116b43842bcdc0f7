package raftstore

import (
	"bytes"
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

func testStream(t testing.TB, self, group, token string) *stream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	key, err := newHandshakeKey(token)
	if err != nil {
		t.Fatal(err)
	}
	known, err := openStarts(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := known.begin(); err != nil {
		t.Fatal(err)
	}
	s := newStream(streamConfig{
		listener: listener, self: self, advertise: listener.Addr().String(), key: key, starts: known, level: func() uint64 { return 0 }, addressOf: func(string) string { return "" },
		stale: func(err error) { t.Error(err) }, failed: func(err error) { t.Error(err) }, log: hclog.NewNullLogger(),
	})
	s.open(group)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *stream) address() raft.ServerAddress { return raft.ServerAddress(s.addr) }

// refusal dials until the other side has decided, and returns its refusal. An attempt that a deadline cut off does not
// count: on a busy machine the other side may not have had its turn yet.
func (s *stream) refusal(t *testing.T, address raft.ServerAddress) error {
	t.Helper()
	member, hostPort, err := splitAddress(address)
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

// script is a listener that hands its connections to the functions in turn, and then each one to the last of them.
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
	if a.isUnreachable("b") {
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
	if _, err := a.Dial(b.address(), 60*time.Millisecond); err == nil || !a.isUnreachable("b") {
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
		"other group": func(t *testing.T) error { return testStream(t, "a", "h", testToken).refusal(t, callee.address()) },
		"wrong member meant": func(t *testing.T) error {
			wiped := serverAddress("wiped", callee.listener.Addr().String())
			return testStream(t, "a", "g", testToken).refusal(t, wiped)
		},
		"the callee itself": func(t *testing.T) error { return callee.refusal(t, callee.address()) },
		"callee is new":     func(t *testing.T) error { return testStream(t, "a", "g", testToken).refusal(t, fresh.address()) },
		"caller is new":     func(t *testing.T) error { return fresh.refusal(t, callee.address()) },
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

// A dial that is refused, tries again and then runs out of time reports the refusal. The time-out of the last attempt
// alone would hide from the operator what is wrong.
func TestStreamDialReportsRefusal(t *testing.T) {
	a := testStream(t, "a", "g", testToken)
	for timeout := 100 * time.Millisecond; ; timeout *= 2 {
		var second atomic.Bool
		hostPort := script(t,
			func(conn net.Conn) { _, _ = conn.Write(make([]byte, nonceSize+macSize)) }, // not the proof of the token
			func(net.Conn) { second.Store(true) },                                      // silent
		)
		_, err := a.Dial(serverAddress("b", hostPort), timeout)
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

// A master that does not answer in time has not refused: what it would have said is not known.
func TestStreamSilentCallee(t *testing.T) {
	a := testStream(t, "a", "g", testToken)
	_, err := a.Dial(serverAddress("b", script(t, func(net.Conn) {})), 100*time.Millisecond)
	var netErr net.Error
	if !errors.As(err, &netErr) || !netErr.Timeout() || errors.Is(err, errHandshake) {
		t.Errorf("dial of a silent master: %v", err)
	}
}

// A connection that is held open without a word holds up nobody else.
func TestStreamSilentCaller(t *testing.T) {
	a, b := testStream(t, "a", "g", testToken), testStream(t, "b", "g", testToken)
	for range 10 {
		silent, err := net.Dial("tcp", b.listener.Addr().String())
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

// A stream that comes up while it is being dialled is reached by that dial.
func TestStreamDialWaits(t *testing.T) {
	a, b := testStream(t, "a", "g", testToken), testStream(t, "b", "", testToken)
	done := make(chan error, 1)
	go func() {
		_, err := a.Dial(b.address(), 20*time.Second)
		done <- err
	}()
	b.open("g")
	if _, err := b.Accept(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// recorder keeps what is written to a connection.
type recorder struct {
	net.Conn
	written bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) {
	r.written.Write(b)
	return r.Conn.Write(b)
}

func TestHandshakeReplayed(t *testing.T) {
	key, err := newHandshakeKey(testToken)
	if err != nil {
		t.Fatal(err)
	}
	meet := func(call func(net.Conn) error) (callErr, answerErr error) {
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- call(near)
			near.Close()
		}()
		answerErr = answerHello(key, far)
		far.Close()
		return <-done, answerErr
	}
	r := &recorder{}
	callErr, answerErr := meet(func(c net.Conn) error {
		r.Conn = c
		return key.call(r, hello{group: "g", caller: "a", callee: "b"})
	})
	if callErr != nil || answerErr != nil {
		t.Fatal(callErr, answerErr)
	}
	_, answerErr = meet(func(c net.Conn) error {
		recorded := r.written.Bytes()
		proof := len(recorded) - macSize
		if _, err := c.Write(recorded[:proof]); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, make([]byte, nonceSize+macSize)); err != nil {
			return err
		}
		_, err := c.Write(recorded[proof:])
		return err
	})
	if !errors.Is(answerErr, errHandshake) {
		t.Fatalf("a replayed handshake: %v", answerErr)
	}
}

// answerHello answers as member b of group g, in version 1.
func answerHello(key handshakeKey, conn net.Conn) error {
	h, raw, err := readHello(conn)
	if err != nil {
		return err
	}
	if err := h.meant("g", "b"); err != nil {
		return err
	}
	return key.answer(conn, raw)
}

// What the callee says may not serve as what a caller must say.
func TestHandshakeReflected(t *testing.T) {
	key, err := newHandshakeKey(testToken)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	go func() {
		raw, _ := hello{group: "g", caller: "a", callee: "b"}.encode(helloVersion)
		var reply [nonceSize + macSize]byte
		_, _ = near.Write(raw)
		_, _ = io.ReadFull(near, reply[:])
		_, _ = near.Write(reply[nonceSize:])
	}()
	if err := answerHello(key, far); !errors.Is(err, errHandshake) {
		t.Fatalf("a reflected proof: %v", err)
	}
}

func FuzzReadHello(f *testing.F) {
	raw, err := hello{group: "g", caller: "a", callee: "b"}.encode(helloVersion)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n                                     "))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		h, raw, err := readHello(r)
		if err != nil {
			if !errors.Is(err, errHandshake) {
				t.Fatalf("%v", err)
			}
			return
		}
		if !bytes.HasPrefix(data, raw) || len(data)-r.Len() != len(raw) {
			t.Fatal("what was read is not what it says")
		}
		again, err := h.encode(raw[len(helloMagic)])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again[helloHead:], raw[helloHead:]) {
			t.Fatalf("%x became %x", raw, again)
		}
	})
}
