// Package origin carries who caused an act, and where the request came from, in the context of a request. The leader
// commits it with the act. Without an origin the leader itself has caused the act.
//
// A master that forwards a request says the source in a header, and signs that with its own key: see [Hop].
package origin

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/chainstore/chainstore/wire/trail"
)

type key struct{}

// With returns a context with an origin.
func With(ctx context.Context, o trail.Origin) context.Context {
	return context.WithValue(ctx, key{}, o)
}

// Of returns the origin of a context. ok is false if it has none.
func Of(ctx context.Context) (o trail.Origin, ok bool) {
	o, ok = ctx.Value(key{}).(trail.Origin)
	return o, ok
}

// Hop is what a master says about a request that it forwards, in the header wire.HeaderHops. The proof of the secret of
// masters covers the header, and the signature says which master it is.
type Hop struct {
	Source trail.Source // zero if it is not known
	Node   string       // the name of the node that sent the request, as the master has seen it; "" for none
	// Signature is the one of [Hop.Message] under the key of Source.Member; "" for none.
	Signature string
}

// HopOf returns what this master says about a request of an origin, without a signature.
func HopOf(o trail.Origin) Hop {
	h := Hop{Source: o.Source}
	if o.Actor.Kind == trail.ByNode {
		h.Node = o.Actor.Name
	}
	return h
}

// String is the content of the header: a hop, and what is known. Masters below protocol level 7 send and read the hop
// alone.
//
//	1[ MEMBER ADDRESS[ NODE SIGNATURE]]
//
// NODE and SIGNATURE are - for none. What has a space is left out.
func (h Hop) String() string {
	node, signature := field(h.Node), field(h.Signature)
	switch source := h.Source; {
	case field(source.Member) == none || field(source.Address) == none:
		return "1"
	case node == none && signature == none:
		return fmt.Sprintf("1 %s %s", source.Member, source.Address)
	default:
		return fmt.Sprintf("1 %s %s %s %s", source.Member, source.Address, node, signature)
	}
}

const none = "-"

// field returns a text if it can be a field of the header, and none otherwise.
func field(text string) string {
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return none
	}
	return text
}

// ParseHop reads what [Hop.String] returns. What it cannot read is zero. The caller must trust the sender.
func ParseHop(header string) (h Hop) {
	parts := strings.Split(header, " ")
	if len(parts) != 3 && len(parts) != 5 {
		return Hop{}
	}
	h.Source.Member, h.Source.Address = parts[1], parts[2]
	if len(parts) == 5 {
		h.Node, h.Signature = strings.TrimPrefix(parts[3], none), strings.TrimPrefix(parts[4], none)
	}
	return h
}

// Request is the part of a forwarded request that the signature of a hop covers besides the hop.
type Request struct {
	Caller        string // the header wire.HeaderCaller: the group, and the term that the master knows
	Method, URI   string
	Authorization string // the header, "" for none
	Body          [sha256.Size]byte
}

// Message returns the bytes that the master signs:
//
//	"chainstore forwarded request v1" ‖ part(member) ‖ part(address) ‖ part(node) ‖ part(caller) ‖
//	part(method) ‖ part(URI) ‖ part(authorization) ‖ SHA-256 of the body
//	part(x) = length u32, big endian ‖ x
//
// So another master cannot use the signature for another request, or in another term.
func (h Hop) Message(r Request) []byte {
	b := []byte("chainstore forwarded request v1")
	for _, text := range []string{
		h.Source.Member, h.Source.Address, strings.TrimPrefix(field(h.Node), none), r.Caller, r.Method, r.URI,
		r.Authorization,
	} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(text))), text...)
	}
	return append(b, r.Body[:]...)
}
