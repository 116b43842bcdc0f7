package origin

import (
	"testing"

	"github.com/chainstore/chainstore/wire/trail"
)

func TestHops(t *testing.T) {
	for _, s := range []trail.Source{{}, {Member: "m1"}, {Address: "::1"}, {Member: "m 1", Address: "::1"},
		{Member: "m1", Address: "::1\r\nX: y"}} {
		if hops := Hops(s); hops != "1" || SourceOf(hops) != (trail.Source{}) {
			t.Errorf("%+v is sent as %q", s, hops)
		}
	}
	s := trail.Source{Member: "m1", Address: "2001:db8::1"}
	if got := SourceOf(Hops(s)); got != s {
		t.Errorf("%+v came as %+v", s, got)
	}
	if _, ok := Of(t.Context()); ok {
		t.Error("a context without an origin has one")
	}
	want := trail.Origin{Source: s}
	if got, ok := Of(With(t.Context(), want)); !ok || got != want {
		t.Errorf("the origin is %+v", got)
	}
}
