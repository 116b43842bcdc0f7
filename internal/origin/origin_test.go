package origin

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/chainstore/chainstore/wire/trail"
)

func TestHops(t *testing.T) {
	for _, s := range []trail.Source{{}, {Member: "m1"}, {Address: "::1"}, {Member: "m 1", Address: "::1"},
		{Member: "m1", Address: "::1\r\nX: y"}} {
		h := Hop{Source: s, Node: "n", Signature: "s"}
		if text := h.String(); text != "1" || ParseHop(text) != (Hop{}) {
			t.Errorf("%+v is sent as %q", s, text)
		}
	}
	source := trail.Source{Member: "m1", Address: "2001:db8::1"}
	for want, h := range map[string]Hop{
		"1 m1 2001:db8::1":              {Source: source},
		"1 m1 2001:db8::1 chain://s1 -": {Source: source, Node: "chain://s1"},
		"1 m1 2001:db8::1 - c2ln":       {Source: source, Signature: "c2ln"},
		"1 m1 2001:db8::1 s1 c2ln":      {Source: source, Node: "s1", Signature: "c2ln"},
	} {
		if got := h.String(); got != want || ParseHop(got) != h {
			t.Errorf("%+v is sent as %q, and came as %+v", h, got, ParseHop(got))
		}
	}
	for _, text := range []string{"", "1", "1 m1", "1 a b c", "1 a b c d e"} {
		if h := ParseHop(text); h != (Hop{}) {
			t.Errorf("%q is read as %+v", text, h)
		}
	}
	if _, ok := Of(t.Context()); ok {
		t.Error("a context without an origin has one")
	}
	want := trail.Origin{Actor: trail.Actor{Kind: trail.ByNode, Name: "s1"}, Source: source}
	got, ok := Of(With(t.Context(), want))
	if !ok || got != want || HopOf(got) != (Hop{Source: source, Node: "s1"}) {
		t.Errorf("the origin is %+v, the hop %+v", got, HopOf(got))
	}
	if h := HopOf(trail.Origin{Actor: trail.Actor{Kind: trail.ByNamed, Name: "anna"}, Source: source}); h.Node != "" {
		t.Errorf("a user is sent as a node: %+v", h)
	}
}

// TestHopMessage checks that the signed bytes differ for each other request, and do not depend on what the header
// leaves out.
func TestHopMessage(t *testing.T) {
	h := Hop{Source: trail.Source{Member: "m1", Address: "192.0.2.1"}, Node: "s1"}
	r := Request{Caller: "1.2 g", Method: "POST", URI: "/v1/x", Authorization: "Bearer a", Body: sha256.Sum256(nil)}
	want := h.Message(r)
	for i, other := range []func(h *Hop, r *Request){
		func(h *Hop, _ *Request) { h.Source.Member = "m2" },
		func(h *Hop, _ *Request) { h.Source.Address = "192.0.2.2" },
		func(h *Hop, _ *Request) { h.Node = "" },
		func(h *Hop, _ *Request) { h.Source.Member, h.Source.Address = "m11", "92.0.2.1" },
		func(_ *Hop, r *Request) { r.Caller = "1.3 g" },
		func(_ *Hop, r *Request) { r.Method = "PUT" },
		func(_ *Hop, r *Request) { r.URI = "/v1/y" },
		func(_ *Hop, r *Request) { r.Authorization = "" },
		func(_ *Hop, r *Request) { r.Body[0]++ },
	} {
		h, r := h, r
		other(&h, &r)
		if bytes.Equal(h.Message(r), want) {
			t.Errorf("change %d is not signed", i)
		}
	}
	sent := Hop{Source: h.Source, Node: "a name with spaces"}
	if !bytes.Equal(sent.Message(r), ParseHop(sent.String()).Message(r)) {
		t.Error("the receiver verifies other bytes than those that were signed")
	}
}
