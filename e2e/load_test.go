package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/wire"
)

// The load is high enough that requests are always under way, and low enough that the verifier can read everything back
// many times.
const (
	singleWriters = 6
	batchWriters  = 3
	readers       = 2
	singleEvery   = slower * 40 * time.Millisecond
	batchEvery    = slower * 400 * time.Millisecond
	readEvery     = slower * 10 * time.Millisecond
	mostInBatch   = 60
	// tryFor is how long a writer retries an append before it gives up.
	tryFor = 2 * patience
	// hastyFor is the longest timeout of a hasty writer.
	hastyFor = 40 * time.Millisecond
	// fastEvery is the pause of fast writers.
	fastEvery = time.Microsecond
	// slowTimes is the factor by which the pauses of slow writers are longer.
	slowTimes = 8
	// ordinarySize is the maximum size in bytes of most records. One in largeEvery records has up to largeSize bytes.
	ordinarySize, largeEvery, largeSize = 600, 100, 100 << 10
)

// load runs writers and readers through all masters.
type load struct {
	c       *cluster
	o       *oracle
	fast    bool // see writerOption
	workers sync.WaitGroup
	ending  chan struct{} // closed: no new append is begun
	once    sync.Once
}

// startLoad starts writers and readers. Each writer's client prefers a different master and fails over to the others.
// The readers read acknowledged records. The load stops with end, or with the test.
func (c *cluster) startLoad(o *oracle) *load {
	c.t.Helper()
	l := &load{c: c, o: o, fast: c.load.fast, ending: make(chan struct{})}
	c.t.Cleanup(l.end)
	times := settings.load
	for i := range times * (singleWriters + batchWriters) {
		w := &writer{
			load: l, number: i, name: fmt.Sprintf("w%d-%d", i, o.count()),
			client: c.writerClient(rotated(c.File().Masters, i)...),
			other:  c.writerClient(rotated(c.File().Masters, i+1)...),
			random: rand.New(rand.NewPCG(uint64(i), uint64(o.count()))), most: 1, every: singleEvery,
		}
		switch {
		case i >= times*singleWriters:
			w.most, w.every = mostInBatch, batchEvery
		case l.fast:
			w.every = fastEvery
		}
		if c.load.slow {
			w.every *= slowTimes
		}
		l.workers.Go(w.run)
	}
	for i, url := range c.File().Masters {
		cl, random := c.clientOnce(url), rand.New(rand.NewPCG(uint64(i), 3))
		l.workers.Go(func() { l.probe(cl, maxClients-1-i, random) })
	}
	if c.checkpoints == nil {
		c.checkpoints = c.knownLog()
	}
	for _, url := range c.File().Masters {
		l.workers.Go(func() { c.watchCheckpoints(o, url, l.ending) })
	}
	for i := range times * readers {
		cl, random := c.client(rotated(c.File().Masters, i)...), rand.New(rand.NewPCG(uint64(i), 2))
		l.workers.Go(func() { l.read(cl, random) })
	}
	return l
}

// rotated returns a list rotated to the left.
func rotated(list []string, by int) []string {
	by %= len(list)
	return slices.Concat(list[by:], list[:by])
}

// end stops the load, and waits for the replies to all appends that are under way.
func (l *load) end() {
	l.once.Do(func() { close(l.ending) })
	l.workers.Wait()
}

// more waits until n further records are acknowledged, or until a fault.
func (l *load) more(n int) {
	l.c.t.Helper()
	want := l.o.count() + n
	l.c.await("more acknowledged records", func() string {
		if l.o.failed() {
			l.o.report(l.c.t)
			l.c.t.FailNow()
		}
		if got := l.o.count(); got < want {
			return fmt.Sprintf("%d are acknowledged, %d are waited for", got, want)
		}
		return ""
	})
}

// writer appends records, one append after the other.
type writer struct {
	load   *load
	name   string
	number int // of the client in the history
	client *client.Client
	other  *client.Client // prefers another master
	random *rand.Rand
	most   int // maximum number of records in an append
	every  time.Duration
	seq    int
	last   *wire.Position // of the last acknowledged record
}

func (w *writer) run() {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		select {
		case <-w.load.ending:
			return
		case <-tick.C:
		}
		if !w.append() {
			return
		}
	}
}

// entry returns a unique record, usually small, sometimes as large as a block.
func (w *writer) entry() client.Entry {
	w.seq++
	name := fmt.Sprintf("%s/%d", w.name, w.seq)
	ordinary, every := ordinarySize, largeEvery
	if w.load.fast {
		ordinary, every = ordinary/10, every*10
	}
	size := w.random.IntN(ordinary)
	if w.random.IntN(every) == 0 {
		size = w.random.IntN(largeSize)
	}
	payload := append(make([]byte, 0, len(name)+1+size), name...)
	payload = append(payload, '\n')
	for range size {
		payload = append(payload, byte(w.random.Uint32()))
	}
	e := client.Entry{Payload: payload, Key: name}
	if w.random.IntN(4) == 0 {
		e.Type = "application/x-e2e; name=\"" + name + "\""
	}
	return e
}

// append appends one record or a batch, and reports whether to continue. Every append has an idempotency key, and some
// appends are sent more than once with it. No matter what happens to the masters, the records are appended once.
func (w *writer) append() bool {
	o := w.load.o
	entries := make([]client.Entry, 1+w.random.IntN(w.most))
	for i := range entries {
		entries[i] = w.entry()
	}
	key := "key of " + entries[0].Key
	began := time.Now() // of the first attempt with this key
	if w.random.IntN(8) == 0 && w.hasty(entries, key) {
		return true
	}
	var early sync.WaitGroup
	if w.random.IntN(16) == 0 {
		early.Go(func() { w.repeat(entries, key) })
	}
	at, err := w.persist(w.client, entries, key)
	ended := time.Now()
	early.Wait()
	if err == nil && len(at) > 0 {
		o.appended(w.number, began, ended, at[0], at[len(at)-1])
	}
	if err != nil {
		o.giveUp(entries)
		o.unknownOutcome(w.number, began, entries)
		o.fault("%s: append of %d records: %v", w.name, len(entries), err)
		return false
	}
	o.ack(entries, at)
	if bound := w.load.c.timeBound; bound > 0 {
		if wrong := timesOutside(at, began, ended, bound); wrong != "" {
			o.fault("%s: %s", w.name, wrong)
		}
	}
	// This append began after the previous one was acknowledged, so it must have a higher place.
	if w.last != nil && at[0].Index <= w.last.Index {
		o.fault("%s: a later append stands at %+v, before the one that was acknowledged at %+v", w.name, at[0], *w.last)
	}
	w.last = &at[len(at)-1]
	if w.random.IntN(16) == 0 {
		w.repeat(entries, key)
	}
	return true
}

// hasty tries an append with a short timeout, and reports whether to leave it at that.
func (w *writer) hasty(entries []client.Entry, key string) bool {
	began := time.Now()
	ctx, cancel := context.WithTimeout(w.load.c.t.Context(), time.Duration(w.random.Int64N(int64(hastyFor))))
	defer cancel()
	_, err := w.try(ctx, w.client, entries, key)
	if err == nil || w.random.IntN(3) > 0 {
		return false // the next attempt waits longer, and must return the same positions
	}
	// Any other error means that nothing was appended. The verifier reports a fault if it finds the record.
	if errors.Is(err, wire.ErrUnknownOutcome) {
		w.load.o.giveUp(entries)
		w.load.o.unknownOutcome(w.number, began, entries)
	}
	return true
}

// repeat sends an append again, preferring another master. The oracle compares the positions with those of the first
// response.
func (w *writer) repeat(entries []client.Entry, key string) {
	at, err := w.persist(w.other, entries, key)
	if err != nil {
		w.load.o.fault("%s: repeat of an append of %d records: %v", w.name, len(entries), err)
		return
	}
	w.load.o.repeated(entries, at)
}

// persist retries an append until there is a definite response. After an unknown outcome it repeats the request with
// the same key.
func (w *writer) persist(cl *client.Client, entries []client.Entry, key string) ([]wire.Position, error) {
	ctx, cancel := context.WithTimeout(w.load.c.t.Context(), tryFor)
	defer cancel()
	for {
		at, err := w.try(ctx, cl, entries, key)
		if err == nil || ctx.Err() != nil || !errors.Is(err, wire.ErrUnknownOutcome) {
			return at, err
		}
	}
}

func (w *writer) try(ctx context.Context, cl *client.Client, entries []client.Entry,
	key string) ([]wire.Position, error) {
	if w.most > 1 {
		return cl.AppendBatch(ctx, entries, key)
	}
	e := entries[0]
	e.IdempotencyKey = key
	at, err := cl.Append(ctx, e)
	return []wire.Position{at}, err
}

// read reads acknowledged records while processes come and go. A missing response is not a fault; a wrong one is.
func (l *load) read(cl *client.Client, random *rand.Rand) {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.ending:
			return
		case <-tick.C:
		}
		r := l.o.any(random)
		if r == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(l.c.t.Context(), tryFor)
		got, err := cl.Get(ctx, r.at.Block, r.at.Offset)
		cancel()
		switch {
		case errors.Is(err, wire.ErrNoAnswer), errors.Is(err, wire.ErrNoLeader), errors.Is(err, wire.ErrUnavailable),
			ctx.Err() != nil:
		case err != nil:
			l.o.fault("read %v: %v", r, err)
		default:
			if d := r.differs(got); d != "" {
				l.o.fault("read %v: %s", r, d)
			}
		}
	}
}
