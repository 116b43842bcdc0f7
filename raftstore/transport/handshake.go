package transport

import (
	"errors"
	"fmt"
	"io"

	"github.com/chainstore/chainstore/masterfsm"
)

// A handshake starts with the caller's hello, which names the sides. It is the same in all versions:
//
//	magic "CSRH" ‖ version u8 ‖ nonce[32] ‖ len8 ‖ group ‖ len8 ‖ caller's id ‖ len8 ‖ id of the member meant
//
// The version is one more than a protocol level that the caller knows: that of the group, or a higher one that the
// callee has used. A callee refuses a lower one than its group's, because the caller's program is older. What follows
// is drawn in handshaketoken.go (version 1) and handshakestarts.go (from version 2 on). The callee closes the
// connection without an answer when it is another member, of another group, or new.
const (
	helloMagic         = "CSRH"
	helloVersion       = 1 // proves the cluster token
	helloVersionStarts = 2 // exchanges the starts too, from protocol level 1 on
	newestHello        = masterfsm.ProtocolLevel + 1
	nonceSize          = 32
	helloHead          = len(helloMagic) + 1 + nonceSize

	tlsRecord = 0x16 // the first byte of a handshake of TLS (RFC 8446 section 5.1)
)

// errHandshake: the two sides must not connect.
var errHandshake = errors.New("handshake refused")

// errCallerTLS: the caller speaks TLS.
var errCallerTLS = errors.New("the caller speaks TLS, and this master does not: start it with certificates " +
	"(--tls-cert), or the caller without")

// hello is the first message of a caller.
type hello struct{ group, caller, callee string }

// readHello reads a hello, and not one byte more. It returns the bytes too: they contain the version.
func readHello(r io.Reader) (hello, []byte, error) {
	raw := make([]byte, helloHead, helloHead+3*256)
	if _, err := io.ReadFull(r, raw); err != nil {
		return hello{}, nil, fmt.Errorf("%w: %w", errHandshake, err)
	}
	if raw[0] == tlsRecord {
		return hello{}, nil, fmt.Errorf("%w: %w", errHandshake, errCallerTLS)
	}
	if string(raw[:len(helloMagic)]) != helloMagic {
		return hello{}, nil, fmt.Errorf("%w: this is not the protocol of masters", errHandshake)
	}
	if v := raw[len(helloMagic)]; v < helloVersion || v > newestHello {
		return hello{}, nil, fmt.Errorf("%w: the caller is at protocol level %d, this program knows up to level %d: "+
			"a newer ChainStore is needed", errHandshake, int(v)-helloVersion, masterfsm.ProtocolLevel)
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

// encode returns the bytes of the hello, with a fresh nonce.
func (h hello) encode(version byte) ([]byte, error) {
	raw := append(make([]byte, 0, helloHead+3*256), helloMagic...)
	raw = append(append(raw, version), newNonce(0)...)
	for _, text := range []string{h.group, h.caller, h.callee} {
		if len(text) > 255 {
			return nil, fmt.Errorf("a name of %d bytes, at most 255 fit into a handshake", len(text))
		}
		raw = append(append(raw, byte(len(text))), text...)
	}
	return raw, nil
}

// check returns an error if a hello is not for member self of group. The group of a new master is "".
func (h hello) check(group, self string) error {
	switch {
	case group == "":
		return fmt.Errorf("%w: this master is new, it belongs to no group", errHandshake)
	case h.group != group:
		return fmt.Errorf("%w: the caller is of another group", errHandshake)
	case h.callee != self:
		return fmt.Errorf("%w: it is meant for member %q", errHandshake, h.callee)
	case h.caller == self:
		return fmt.Errorf("%w: the caller claims to be this member", errHandshake)
	}
	return nil
}
