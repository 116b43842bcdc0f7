package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

// recorder records what is written to a connection.
type recorder struct {
	net.Conn
	written bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) {
	r.written.Write(b)
	return r.Conn.Write(b)
}

func TestHandshakeReplayed(t *testing.T) {
	key, err := NewKey(testToken)
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
		return bare(key, r).call(hello{group: "g", caller: "a", callee: "b"})
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
func answerHello(key Key, conn net.Conn) error {
	h, raw, err := readHello(conn)
	if err != nil {
		return err
	}
	if err := h.check("g", "b"); err != nil {
		return err
	}
	return bare(key, conn).answer(h, raw)
}

// bare returns a connection of no stream in particular.
func bare(key Key, c net.Conn) *conn {
	return &conn{Conn: c, stream: &Stream{refused: map[string]bool{}}, keys: []Key{key}, from: []Key{key}}
}

// The proof of a callee is not accepted as the proof of a caller.
func TestHandshakeReflected(t *testing.T) {
	key, err := NewKey(testToken)
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
