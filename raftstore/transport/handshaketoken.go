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

// Version 1 of the handshake, for protocol level 0. Each side proves that it has the masters' secret, by an HMAC-SHA256
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

// Key is derived from a value of the masters' secret. Several may be accepted while the secret is replaced. The callee
// proves one first, and the caller goes on with the same.
type Key []byte

// NewKey derives the key from a value of the secret.
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
	if _, err := io.ReadFull(conn, message); err != nil {
		return nil, fmt.Errorf("%w: no proof of the masters' secret came: %w", errHandshake, err)
	}
	message, mac := message[:size], message[size:]
	if !hmac.Equal(mac, k.mac(label, transcript, message)) {
		return nil, errOtherSecret
	}
	return message, nil
}

var errOtherSecret = fmt.Errorf("%w: the other side has another cluster token, or another secret of masters",
	errHandshake)

// receiveProof reads the callee's first message, of size bytes, and checks its mac. The callee chooses the key: any
// that this side accepts will do, and is used from then on.
func (c *conn) receiveProof(transcript []byte, size int) ([]byte, error) {
	message := make([]byte, size+macSize)
	switch _, err := io.ReadFull(c, message); {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("no answer to the handshake: %w", err)
	default:
		return nil, fmt.Errorf("%w: the other side is new, another member, of another group, or of another version: %w",
			errHandshake, err)
	}
	message, mac := message[:size], message[size:]
	for i, k := range c.keys {
		if hmac.Equal(mac, k.mac(macCallee, transcript, message)) {
			c.use(i)
			return message, nil
		}
	}
	return nil, errOtherSecret
}

// newNonce returns a nonce, with room for extra bytes behind it.
func newNonce(extra int) []byte {
	nonce := make([]byte, nonceSize, nonceSize+extra)
	rand.Read(nonce)
	return nonce
}

// call does the caller's part of version 1.
func (c *conn) call(h hello) error {
	transcript, err := h.encode(helloVersion)
	if err != nil {
		return err
	}
	if _, err := c.Write(transcript); err != nil {
		return err
	}
	nonce, err := c.receiveProof(transcript, nonceSize)
	if err != nil {
		return err
	}
	return c.key.send(c, macCaller, append(transcript, nonce...), nil)
}

// answer does the callee's part of version 1, after the hello.
func (c *conn) answer(h hello, transcript []byte) error {
	nonce := newNonce(macSize)
	c.useAny(h.caller)
	if err := c.key.send(c, macCallee, transcript, nonce); err != nil {
		return err
	}
	_, err := c.key.receive(c, macCaller, append(transcript, nonce...), 0)
	if err != nil {
		c.stream.notAccepted(h.caller, err)
	}
	return err
}
