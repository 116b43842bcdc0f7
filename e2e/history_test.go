package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/wire"
)

// maxClients bounds the clients of a history.
const maxClients = 10_000

// operation is an operation of a client: an append, or a read of a place. Times are nanoseconds since birth.
type operation struct {
	client      int
	call, ended int64 // ended is math.MaxInt64 if the outcome is unknown
	read        bool
	found       bool   // of a read
	first, last uint64 // order of the first and last place of an append, or of the place that was read
	rank        int    // number of appends before it in its piece
	lost        bool   // the outcome of an append is unknown, and so is its place
}

// orderOf maps the places of a chain to ordered numbers.
func orderOf(block uint64, offset uint32) uint64 { return block<<32 | uint64(offset) }

// birth is the origin of the times in a history.
var birth = time.Now()

func since(t time.Time) int64 { return int64(t.Sub(birth)) }

// appended adds an acknowledged append to the history.
func (o *oracle) appended(client int, began, ended time.Time, first, last wire.Position) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.history = append(o.history, operation{
		client: client, call: since(began), ended: since(ended),
		first: orderOf(first.Block, first.Offset), last: orderOf(last.Block, last.Offset),
	})
}

// unknownOutcome adds an append to the history for which it is unknown whether, or when, it took effect.
func (o *oracle) unknownOutcome(client int, began time.Time, entries []client.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range entries {
		o.open[string(e.Payload)] = len(o.history)
		o.history = append(o.history, operation{client: client, call: since(began), ended: math.MaxInt64, lost: true})
	}
}

// resolve sets the place of an append of unknown outcome after it was found in the chain.
func (o *oracle) resolve(payload []byte, at place) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i, ok := o.open[string(payload)]; ok {
		op := &o.history[i]
		op.first, op.last, op.lost = orderOf(at.block, at.offset), orderOf(at.block, at.offset), false
	}
}

// probe reads places around the newest acknowledged record, through one master and without retries. Both found and not
// found must be consistent with the acknowledgements meanwhile.
func (l *load) probe(cl *client.Client, number int, random *rand.Rand) {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.ending:
			return
		case <-tick.C:
		}
		r := l.o.newest()
		if r == nil {
			continue
		}
		at := place{r.at.Block, r.at.Offset + uint32(random.IntN(4))}
		if random.IntN(4) == 0 {
			at = place{r.at.Block + 1, 0}
		}
		ctx, cancel := context.WithTimeout(l.c.t.Context(), tryFor)
		began := time.Now()
		_, err := cl.Get(ctx, at.block, at.offset)
		ended := time.Now()
		cancel()
		if err == nil || errors.Is(err, wire.ErrNotFound) {
			l.o.looked(operation{
				client: number, call: since(began), ended: since(ended), read: true, found: err == nil,
				first: orderOf(at.block, at.offset), last: orderOf(at.block, at.offset),
			})
		}
	}
}

func (o *oracle) looked(op operation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.history = append(o.history, op)
}

// newest returns the record that was acknowledged last.
func (o *oracle) newest() *ackedRecord {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.order) == 0 {
		return nil
	}
	return o.order[len(o.order)-1]
}

// oneLog is the model: a single log to which appends are applied one after the other, in the order of their places. Its
// state is the number of applied appends of a piece.
var oneLog = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		done, op := state.(int), input.(operation)
		switch {
		case op.read && op.found:
			return done > op.rank, done
		case op.read:
			return done <= op.rank, done
		}
		return op.rank == done, done + 1
	},
	DescribeOperation: func(input, _ any) string {
		op := input.(operation)
		if op.read {
			return fmt.Sprintf("look at %d/%d: %v", op.last>>32, uint32(op.last), op.found)
		}
		return fmt.Sprintf("append to %d/%d", op.first>>32, uint32(op.first))
	},
}

// pieceSize is the number of operations in one call of the model checker; pieceTime is the time limit for a call.
const (
	pieceSize = 300
	pieceTime = 5 * time.Second
)

// checkHistory checks the history with the model. It also checks that an append that ended before another began has the
// lower place. It must be called after the chain has been scanned.
func (o *oracle) checkHistory(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	ops := o.known()
	o.checkOrder(ops)
	pieces, illegal, unknown := 0, 0, 0
	var w window
	for piece := range slices.Chunk(ops, pieceSize) {
		history := w.next(piece)
		result, info := porcupine.CheckOperationsVerbose(oneLog, history, pieceTime)
		switch result {
		case porcupine.Illegal:
			illegal++
			o.faultLocked("the history of appends and reads is not that of one log: %s", misfit(history, info))
		case porcupine.Unknown:
			unknown++
		}
		pieces++
	}
	t.Logf("history: %d operations in %d pieces: %d pieces do not fit one log, %d took too long to tell", len(ops),
		pieces, illegal, unknown)
	if 2*unknown > pieces {
		o.faultLocked("of %d pieces of the history %d took too long to be checked", pieces, unknown)
	}
}

// misfit describes where a history stops being linearizable: the operation that must come next because it ended first,
// and the operations around it.
func misfit(history []porcupine.Operation, info porcupine.LinearizationInfo) string {
	var done []int
	for _, tries := range info.PartialLinearizations() {
		for _, try := range tries {
			if len(try) > len(done) {
				done = try
			}
		}
	}
	rest := slices.Clone(history)
	for _, i := range done {
		rest[i].Call = math.MaxInt64
	}
	rest = slices.DeleteFunc(rest, func(op porcupine.Operation) bool { return op.Call == math.MaxInt64 })
	slices.SortFunc(rest, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	text := fmt.Sprintf("%d of %d operations fit, in which these came last:", len(done), len(history))
	for _, i := range done[max(0, len(done)-4):] {
		text += "\n\t" + describe(history[i])
	}
	text += "\nand then these cannot, of which the first ended first:"
	for _, op := range rest[:min(len(rest), 8)] {
		text += "\n\t" + describe(op)
	}
	return text
}

func describe(op porcupine.Operation) string {
	in := op.Input.(operation)
	return fmt.Sprintf("%s (rank %d), from %v to %v", oneLog.DescribeOperation(in, nil), in.rank,
		time.Duration(in.call), time.Duration(in.ended))
}

// known returns the operations with a known outcome, in the order in which they began. It skips reads of places that no
// append of the history occupies.
func (o *oracle) known() []operation {
	var ops, looks []operation
	for _, op := range o.history {
		switch {
		case op.read:
			looks = append(looks, op)
		case !op.lost:
			ops = append(ops, op)
		}
	}
	slices.SortFunc(ops, func(a, b operation) int { return cmp.Compare(a.first, b.first) })
	appends := len(ops)
	for _, op := range looks {
		at := upTo(ops[:appends], op.first)
		if at == 0 || op.first > ops[at-1].last {
			continue
		}
		// A batch that spans two blocks also covers places beyond the end of the first block. No record has those
		// places.
		if op.first == ops[at-1].last || o.acked[place{op.first >> 32, uint32(op.first)}] != nil {
			ops = append(ops, op)
		}
	}
	slices.SortFunc(ops, func(a, b operation) int { return cmp.Compare(a.call, b.call) })
	return ops
}

// upTo returns how many of the appends, sorted by place, begin at or before a place.
func upTo(appends []operation, place uint64) int {
	at, _ := slices.BinarySearchFunc(appends, place, func(a operation, place uint64) int {
		if a.first <= place {
			return -1
		}
		return 1
	})
	return at
}

// checkOrder checks all operations at once, which the model cannot: an append that ended before another began must have
// the lower place.
func (o *oracle) checkOrder(ops []operation) {
	ended := make([]operation, 0, len(ops))
	for _, op := range ops {
		if !op.read && op.ended != math.MaxInt64 {
			ended = append(ended, op)
		}
	}
	began := slices.Clone(ended)
	slices.SortFunc(ended, func(a, b operation) int { return cmp.Compare(a.ended, b.ended) })
	var highest uint64
	next := 0
	for _, op := range began { // in the order of their calls
		for next < len(ended) && ended[next].ended < op.call {
			highest = max(highest, ended[next].last+1)
			next++
		}
		if op.first < highest {
			o.faultLocked("an append that began later stands at %d/%d, before one that had ended at %d/%d",
				op.first>>32, uint32(op.first), (highest-1)>>32, uint32(highest-1))
		}
	}
}

// window splits a history into pieces.
type window struct {
	before []operation // appends that began before the piece, and may still be running
	floor  uint64      // all places below were acknowledged before the piece began
}

// next returns the history of the next piece. Appends below the floor are already applied. Reads that may have seen
// appends after the piece are left out.
func (w *window) next(piece []operation) []porcupine.Operation {
	begin, last := piece[0].call, piece[len(piece)-1].call
	for _, op := range w.before {
		if op.ended < begin {
			w.floor = max(w.floor, op.last+1)
		}
	}
	var ops, appends []operation
	for _, op := range slices.Concat(w.before, piece) {
		switch {
		case op.read && (op.call < begin || op.ended > last):
		case !op.read && op.call < begin && op.last < w.floor:
		default:
			ops = append(ops, op)
			if !op.read {
				appends = append(appends, op)
			}
		}
	}
	slices.SortFunc(appends, func(a, b operation) int { return cmp.Compare(a.first, b.first) })
	history := make([]porcupine.Operation, len(ops))
	for i, op := range ops {
		// The number of appends at lower places. The place belongs to the last of them.
		op.rank = upTo(appends, op.first) - 1
		if op.read && op.first >= w.floor && (op.rank < 0 || op.first > appends[op.rank].last) {
			op.rank = len(appends) // an append that began later has this place
		}
		history[i] = porcupine.Operation{ClientId: i, Input: op, Call: max(op.call, begin), Return: op.ended}
	}
	w.before = appends
	return history
}

// TestHistoryChecker checks small histories that were written by hand.
func TestHistoryChecker(t *testing.T) {
	// A batch that spans block 0, which has three records, and block 1.
	batch := func(o *oracle, began time.Time) {
		at := []wire.Position{{Block: 0, Offset: 2, Index: 2}, {Block: 1, Offset: 0, Index: 4}}
		o.ack([]client.Entry{{Key: "a"}, {Key: "b"}}, at)
		o.appended(1, began, began.Add(time.Millisecond), at[0], at[1])
	}
	for _, row := range []struct {
		name  string
		look  place
		found bool
		fits  bool
	}{
		{"a record is found", place{0, 2}, true, true},
		{"a record is not found", place{0, 2}, false, false},
		{"the last record is not found", place{1, 0}, false, false},
		{"what lies behind the end of a block is not found", place{0, 3}, false, true},
		{"what lies behind the end of the chain is not found", place{1, 1}, false, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := newOracle()
			batch(o, birth)
			o.looked(operation{
				client: 2, call: int64(time.Second), ended: int64(time.Second) + 1, read: true, found: row.found,
				first: orderOf(row.look.block, row.look.offset), last: orderOf(row.look.block, row.look.offset),
			})
			after := wire.Position{Block: 1, Offset: 1, Index: 5} // the last reads of a piece are left out
			o.ack([]client.Entry{{Key: "c"}}, []wire.Position{after})
			o.appended(1, birth.Add(2*time.Second), birth.Add(3*time.Second), after, after)
			o.checkHistory(t)
			if fits := len(o.faults) == 0; fits != row.fits {
				t.Errorf("it fits: %v, with %q", fits, o.faults)
			}
		})
	}
}
