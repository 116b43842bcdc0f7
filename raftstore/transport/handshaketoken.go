package transport

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

// Version 1 of the handshake, for protocol level 0. Each side proves that it has the cluster token, by an HMAC-SHA256
// over the transcript, which has the fresh nonces of both:
//
//	caller: hello
//	callee: nonce[32] ‖ mac[32] over "callee" ‖ the hello ‖ the callee's nonce
//	caller: mac[32] over "caller" ‖ the hello ‖ the callee's nonce
//
// A recorded handshake cannot be replayed, as the callee's nonce is new each time. An answer cannot be used as a call,
// as the labels differ.

const (
	macSize   = sha256.Size
	macCallee = "callee" // labels
	macCaller = "caller"
	macEnd    = "end"
)

// Key is derived from the cluster token, which itself is not kept.
type Key []byte

// NewKey derives the key from a cluster token.
func NewKey(token string) (Key, error) {
	return hkdf.Key(sha256.New, []byte(token), nil, "chainstore raft handshake v1", sha256.Size)
}

func (k Key) mac(label string, transcript, message []byte) []byte {
	m := hmac.New(sha256.New, k)
	m.Write([]byte(label))
	m.Write(transcript)
	m.Write(message)
	return m.Sum(nil)
}

// send sends a message and its mac.
func (k Key) send(conn io.Writer, label string, transcript, message []byte) error {
	_, err := conn.Write(append(message, k.mac(label, transcript, message)...))
	return err
}

// receive reads a message of size bytes and checks its mac.
func (k Key) receive(conn io.Reader, label string, transcript []byte, size int) ([]byte, error) {
	message := make([]byte, size+macSize)
	switch _, err := io.ReadFull(conn, message); {
	case err == nil:
	case label != macCallee:
		return nil, fmt.Errorf("%w: no proof of the cluster token came: %w", errHandshake, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("no answer to the handshake: %w", err)
	default:
		return nil, fmt.Errorf("%w: the other side is new, another member, of another group, or of another version: %w",
			errHandshake, err)
	}
	message, mac := message[:size], message[size:]
	if !hmac.Equal(mac, k.mac(label, transcript, message)) {
		return nil, fmt.Errorf("%w: the other side has another cluster token", errHandshake)
	}
	return message, nil
}

// newNonce returns a nonce, with room for extra bytes behind it.
func newNonce(extra int) []byte {
	nonce := make([]byte, nonceSize, nonceSize+extra)
	rand.Read(nonce)
	return nonce
}

// call does the caller's part of version 1.
func (k Key) call(conn io.ReadWriter, h hello) error {
	transcript, err := h.encode(helloVersion)
	if err != nil {
		return err
	}
	if _, err := conn.Write(transcript); err != nil {
		return err
	}
	nonce, err := k.receive(conn, macCallee, transcript, nonceSize)
	if err != nil {
		return err
	}
	return k.send(conn, macCaller, append(transcript, nonce...), nil)
}

// answer does the callee's part of version 1, after the hello.
func (k Key) answer(conn io.ReadWriter, transcript []byte) error {
	nonce := newNonce(macSize)
	if err := k.send(conn, macCallee, transcript, nonce); err != nil {
		return err
	}
	_, err := k.receive(conn, macCaller, append(transcript, nonce...), 0)
	return err
}
