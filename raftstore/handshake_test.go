package raftstore

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
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
	s := newStream(listener, self, listener.Addr().String(), key, hclog.NewNullLogger())
	s.open(group)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *stream) address() raft.ServerAddress { return raft.ServerAddress(s.addr) }

// dialBriefly is a dial without time for a second try to succeed.
func (s *stream) dialBriefly(a raft.ServerAddress) (net.Conn, error) {
	return s.Dial(a, 60*time.Millisecond)
}

func TestStream(t *testing.T) {
	a, b := testStream(t, "a", "g", testToken), testStream(t, "b", "g", testToken)
	c, err := a.Dial(b.address(), 5*time.Second)
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
	if _, err := a.dialBriefly(b.address()); err == nil || !a.isUnreachable("b") {
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
	for name, dial := range map[string]func() (net.Conn, error){
		"wrong token": func() (net.Conn, error) {
			return testStream(t, "a", "g", "another token").dialBriefly(callee.address())
		},
		"other group": func() (net.Conn, error) { return testStream(t, "a", "h", testToken).dialBriefly(callee.address()) },
		"wrong member meant": func() (net.Conn, error) {
			return testStream(t, "a", "g", testToken).dialBriefly(serverAddress("wiped", callee.listener.Addr().String()))
		},
		"the callee itself": func() (net.Conn, error) { return callee.dialBriefly(callee.address()) },
		"callee is new":     func() (net.Conn, error) { return testStream(t, "a", "g", testToken).dialBriefly(fresh.address()) },
		"caller is new":     func() (net.Conn, error) { return fresh.dialBriefly(callee.address()) },
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := dial()
			// On a busy machine the time may be over before the other side has said anything: that tells nothing.
			for end := time.Now().Add(20 * time.Second); errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, errHandshake) && time.Now().Before(end); {
				conn, err = dial()
			}
			if err == nil {
				t.Fatal("connected", conn.Close())
			}
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
	conn, err := a.Dial(b.address(), 2*time.Second)
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
		_, err := a.Dial(b.address(), 10*time.Second)
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
		_, answerErr = key.answer(far, "g", "b")
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

// What the callee says may not serve as what a caller must say.
func TestHandshakeReflected(t *testing.T) {
	key, err := newHandshakeKey(testToken)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	go func() {
		raw, _ := hello{group: "g", caller: "a", callee: "b"}.encode()
		var reply [nonceSize + macSize]byte
		_, _ = near.Write(raw)
		_, _ = io.ReadFull(near, reply[:])
		_, _ = near.Write(reply[nonceSize:])
	}()
	if _, err := key.answer(far, "g", "b"); !errors.Is(err, errHandshake) {
		t.Fatalf("a reflected proof: %v", err)
	}
}

func FuzzReadHello(f *testing.F) {
	raw, err := hello{group: "g", caller: "a", callee: "b"}.encode()
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
		again, err := h.encode()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again[helloHead:], raw[helloHead:]) {
			t.Fatalf("%x became %x", raw, again)
		}
	})
}
