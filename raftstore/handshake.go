package raftstore

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

// The handshake that opens each raft connection. The caller says whom it means, then each side proves that it has the
// cluster token, by an HMAC-SHA256 over all that was said with the fresh nonces of both:
//
//	caller: magic "CSRH" ‖ version u8 = 1 ‖ nonce[32] ‖ len8 ‖ group ‖ len8 ‖ caller's id ‖ len8 ‖ id of the member meant
//	callee: nonce[32] ‖ mac[32] over "callee" ‖ the hello ‖ the callee's nonce
//	caller: mac[32] over "caller" ‖ the hello ‖ the callee's nonce
//
// The callee closes the connection without a word when it is another member, of another group, or new. A recorded handshake
// is worth nothing, as the callee's nonce is new each time; an answer cannot be turned into a call, as the labels differ.
const (
	helloMagic   = "CSRH"
	helloVersion = 1
	nonceSize    = 32
	macSize      = sha256.Size
	helloHead    = len(helloMagic) + 1 + nonceSize
)

// errHandshake: the other side does not fit.
var errHandshake = errors.New("handshake refused")

// handshakeKey is made of the cluster token, which itself is never kept.
type handshakeKey []byte

func newHandshakeKey(token string) (handshakeKey, error) {
	return hkdf.Key(sha256.New, []byte(token), nil, "chainstore raft handshake v1", sha256.Size)
}

// hello is what a caller says first.
type hello struct{ group, caller, callee string }

// readHello reads a hello and not one byte more, and returns its bytes too.
func readHello(r io.Reader) (hello, []byte, error) {
	raw := make([]byte, helloHead, helloHead+3*256)
	if _, err := io.ReadFull(r, raw); err != nil {
		return hello{}, nil, fmt.Errorf("%w: %w", errHandshake, err)
	}
	if string(raw[:len(helloMagic)]) != helloMagic {
		return hello{}, nil, fmt.Errorf("%w: this is not the protocol of masters", errHandshake)
	}
	if v := raw[len(helloMagic)]; v != helloVersion {
		return hello{}, nil, fmt.Errorf("%w: version %d, this program knows %d", errHandshake, v, helloVersion)
	}
	var texts [3]string
	for i := range texts {
		var size [1]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return hello{}, nil, fmt.Errorf("%w: %w", errHandshake, err)
		}
		start := len(raw) + 1
		raw = append(raw, size[0])
		raw = raw[:start+int(size[0])]
		if _, err := io.ReadFull(r, raw[start:]); err != nil {
			return hello{}, nil, fmt.Errorf("%w: %w", errHandshake, err)
		}
		texts[i] = string(raw[start:])
	}
	return hello{group: texts[0], caller: texts[1], callee: texts[2]}, raw, nil
}

// encode puts the hello into its form, with a fresh nonce.
func (h hello) encode() ([]byte, error) {
	raw := append(make([]byte, 0, helloHead+3*256), helloMagic...)
	raw = append(raw, helloVersion)
	raw = append(raw, make([]byte, nonceSize)...)
	rand.Read(raw[len(raw)-nonceSize:])
	for _, text := range []string{h.group, h.caller, h.callee} {
		if len(text) > 255 {
			return nil, fmt.Errorf("a name of %d bytes, at most 255 fit into a handshake", len(text))
		}
		raw = append(append(raw, byte(len(text))), text...)
	}
	return raw, nil
}

func (k handshakeKey) mac(label string, raw, nonce []byte) []byte {
	m := hmac.New(sha256.New, k)
	m.Write([]byte(label))
	m.Write(raw)
	m.Write(nonce)
	return m.Sum(nil)
}

// call opens a connection as the caller.
func (k handshakeKey) call(conn io.ReadWriter, h hello) error {
	raw, err := h.encode()
	if err != nil {
		return err
	}
	if _, err := conn.Write(raw); err != nil {
		return err
	}
	var answer [nonceSize + macSize]byte
	if _, err := io.ReadFull(conn, answer[:]); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no answer to the handshake: %w", err)
	} else if err != nil {
		return fmt.Errorf("%w: the other side is new, another member, or of another group: %w", errHandshake, err)
	}
	nonce, mac := answer[:nonceSize], answer[nonceSize:]
	if !hmac.Equal(mac, k.mac("callee", raw, nonce)) {
		return fmt.Errorf("%w: the other side has another cluster token", errHandshake)
	}
	_, err = conn.Write(k.mac("caller", raw, nonce))
	return err
}

// answer takes a connection as the callee, member self of group ("" for a new master), and returns what the caller said.
func (k handshakeKey) answer(conn io.ReadWriter, group, self string) (hello, error) {
	h, raw, err := readHello(conn)
	switch {
	case err != nil:
		return h, err
	case group == "":
		return h, fmt.Errorf("%w: this master is new, it belongs to no group", errHandshake)
	case h.group != group:
		return h, fmt.Errorf("%w: it is of another group", errHandshake)
	case h.callee != self:
		return h, fmt.Errorf("%w: it means member %q", errHandshake, h.callee)
	case h.caller == self:
		return h, fmt.Errorf("%w: it says that it is this very member", errHandshake)
	}
	var reply [nonceSize + macSize]byte
	rand.Read(reply[:nonceSize])
	copy(reply[nonceSize:], k.mac("callee", raw, reply[:nonceSize]))
	if _, err := conn.Write(reply[:]); err != nil {
		return h, err
	}
	var mac [macSize]byte
	if _, err := io.ReadFull(conn, mac[:]); err != nil {
		return h, fmt.Errorf("%w: no proof of the cluster token came: %w", errHandshake, err)
	}
	if !hmac.Equal(mac[:], k.mac("caller", raw, reply[:nonceSize])) {
		return h, fmt.Errorf("%w: it has another cluster token", errHandshake)
	}
	return h, nil
}
