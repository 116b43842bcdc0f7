// Package origin carries who caused an act, and where the request came from, in the context of a request. The leader
// commits it with the act. Without an origin the leader itself has caused the act.
package origin

import (
	"context"
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

// Hops is the value of the header wire.HeaderHops of a call that this master forwards: one hop, and the source of the
// request, if it is known. Masters below protocol level 7 send and read the hop alone.
//
//	1[ MEMBER ADDRESS]
func Hops(s trail.Source) string {
	if s.Member == "" || s.Address == "" || strings.ContainsAny(s.Member+s.Address, " \r\n") {
		return "1"
	}
	return fmt.Sprintf("1 %s %s", s.Member, s.Address)
}

// SourceOf reads what [Hops] returns. The source is zero if it is not known. The caller must trust the sender.
func SourceOf(hops string) trail.Source {
	parts := strings.Split(hops, " ")
	if len(parts) != 3 {
		return trail.Source{}
	}
	return trail.Source{Member: parts[1], Address: parts[2]}
}
