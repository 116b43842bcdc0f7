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
// over everything that was said, with the fresh nonces of both:
//
//	caller: hello
//	callee: nonce[32] ‖ mac[32] over "callee" ‖ the hello ‖ the callee's nonce
//	caller: mac[32] over "caller" ‖ the hello ‖ the callee's nonce
//
// A recorded handshake is of no use, as the callee's nonce is new each time. An answer cannot serve as a call, as the
// labels differ.

const macSize = sha256.Size

// Key is derived from the cluster token, which itself is not kept.
type Key []byte

// NewKey derives the key from a cluster token.
func NewKey(token string) (Key, error) {
	return hkdf.Key(sha256.New, []byte(token), nil, "chainstore raft handshake v1", sha256.Size)
}

func (k Key) mac(label string, raw, nonce []byte) []byte {
	m := hmac.New(sha256.New, k)
	m.Write([]byte(label))
	m.Write(raw)
	m.Write(nonce)
	return m.Sum(nil)
}

// call does the caller's part of version 1.
func (k Key) call(conn io.ReadWriter, h hello) error {
	raw, err := h.encode(helloVersion)
	if err != nil {
		return err
	}
	if _, err := conn.Write(raw); err != nil {
		return err
	}
	var answer [nonceSize + macSize]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return noAnswer(err)
	}
	nonce, mac := answer[:nonceSize], answer[nonceSize:]
	if !hmac.Equal(mac, k.mac("callee", raw, nonce)) {
		return fmt.Errorf("%w: the other side has another cluster token", errHandshake)
	}
	_, err = conn.Write(k.mac("caller", raw, nonce))
	return err
}

// noAnswer returns the error for a hello that was not answered.
func noAnswer(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no answer to the handshake: %w", err)
	}
	return fmt.Errorf("%w: the other side is new, another member, of another group, or of another version: %w",
		errHandshake, err)
}

// answer does the callee's part of version 1, after the hello.
func (k Key) answer(conn io.ReadWriter, raw []byte) error {
	var reply [nonceSize + macSize]byte
	rand.Read(reply[:nonceSize])
	copy(reply[nonceSize:], k.mac("callee", raw, reply[:nonceSize]))
	if _, err := conn.Write(reply[:]); err != nil {
		return err
	}
	var mac [macSize]byte
	if _, err := io.ReadFull(conn, mac[:]); err != nil {
		return fmt.Errorf("%w: no proof of the cluster token came: %w", errHandshake, err)
	}
	if !hmac.Equal(mac[:], k.mac("caller", raw, reply[:nonceSize])) {
		return fmt.Errorf("%w: the caller has another cluster token", errHandshake)
	}
	return nil
}
