package worker

import (
	"context"
	"errors"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// TestFenceCancelsOrdersThatBegin checks that an order that passed, and begins when a newer one waits already, is
// canceled from the start. An order of the same leader as the one that waits is not.
func TestFenceCancelsOrdersThatBegin(t *testing.T) {
	f, err := OpenFence(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	newer := wire.Order{Epoch: 1, Term: 2}
	begins := func(term uint64) error {
		ctx, end := f.begin(t.Context(), wire.Order{Epoch: 1, Term: term})
		defer end()
		return context.Cause(ctx)
	}
	done := f.supersede(newer)
	var fenced *wire.FencedError
	if err := begins(1); !errors.As(err, &fenced) || fenced.Highest != newer {
		t.Errorf("an older order: %v", err)
	}
	if err := begins(2); err != nil {
		t.Errorf("an order of the same leader: %v", err)
	}
	done()
	if err := begins(1); err != nil {
		t.Errorf("nothing waits any more: %v", err)
	}
	if len(f.running) > 0 || len(f.waiting) > 0 {
		t.Errorf("%d orders are carried out, %d wait", len(f.running), len(f.waiting))
	}
}
