package masternode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// TestSimulation runs writers against two masters, one of which is the leader, and injects faults by a seed. Leaders
// are deposed, some in the middle of a command, so that its outcome is unknown. Calls and responses are lost, and
// submissions are duplicated. Storage nodes die and return, miners return wrong nonces, and every leader has a
// different wall clock. In the end the nodes must be Valid, their chains equal, and the history of the writers must
// match the chain: see simulation.check. After that the cluster must make progress: see rig.checkLiveness.
//
// A failure names its seed, which determines all random draws. The following command repeats seed 17. The runtime still
// chooses the order of goroutines that are ready at the same instant, so a failure may need several runs:
//
//	go test ./masternode -run 'TestSimulation/seed=17$' -count 20
func TestSimulation(t *testing.T) {
	forEachSeed(t, simulationSeeds, simulate)
}

// forEachSeed runs a simulation for a number of seeds, each in its own bubble, as many in parallel as there are
// processors.
func forEachSeed(t *testing.T, seeds int, simulate func(*testing.T, uint64)) {
	if testing.Short() {
		seeds = max(2, seeds/10)
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		})
	}
}

// dice provides the random draws of a simulation. Each name has its own stream, so that the draws of one do not affect
// those of the others.
type dice struct {
	seed    uint64
	mu      sync.Mutex // guards streams
	streams map[string]*rand.Rand
}

// draw returns a random number below n.
func (d *dice) draw(who string, n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	stream := d.streams[who]
	if stream == nil {
		name := fnv.New64a()
		_, _ = name.Write([]byte(who)) // writing to a hash does not fail
		stream = rand.New(rand.NewPCG(d.seed, name.Sum64()))
		d.streams[who] = stream
	}
	return stream.IntN(n)
}

// once is true once in n times on average; never if n is 0.
func (d *dice) once(who string, n int) bool { return n > 0 && d.draw(who, n) == 0 }

// within returns a random duration below most, with nanosecond precision, so that two events rarely coincide.
func (d *dice) within(who string, most time.Duration) time.Duration {
	return time.Duration(d.draw(who, int(most)))
}

// weather is the frequency of each kind of fault for a seed: once in this many times, 0 for never.
type weather struct {
	calls, answers int // lost calls and responses of workers, and between the masters
	twice          int // duplicated submissions
	nonces         int // wrong nonces
	outcomes       int // commands during which the leader is deposed
	deaths         bool
	cuts           bool
	clocks         bool
	unable         int // checks that cannot be done
}

func (d *dice) weather() weather {
	rate := func(rates ...int) int { return rates[d.draw("weather", len(rates))] }
	return weather{
		calls: rate(0, 8, 4), answers: rate(0, 16, 8), twice: rate(0, 4, 2), nonces: rate(0, 4, 2),
		outcomes: rate(0, 40, 10),
		deaths:   rate(0, 1, 1) > 0, cuts: rate(0, 1, 1) > 0, clocks: rate(0, 1) > 0,
		unable: rate(0, 4, 2),
	}
}

// simulation is the run of one seed.
type simulation struct {
	*rig
	t       *testing.T
	dice    *dice
	weather weather
	calm    atomic.Bool // no faults
	other   *Node       // the master that is not the leader
	network *lossyMasters
	clock   masterstest.Clock // of the leader's machine
	stored  uint64            // number of stored blocks at the last check; the ledger's lock guards it

	instants atomic.Int64 // counts beginnings and ends of appends
	mu       sync.Mutex   // guards the fields below
	writes   []*write
	seen     []seenCheckpoint
}

const simulatedStorages = 3

func simulate(t *testing.T, seed uint64) {
	d := &dice{seed: seed, streams: map[string]*rand.Rand{}}
	s := &simulation{t: t, dice: d, weather: d.weather()}
	s.calm.Store(true) // until the setup is done
	s.rig = newRig(t, simulatedStorages, s.configure)
	defer s.stop()
	s.registerWorker(t, masterfsm.RoleMiner, "http://miner2")
	defer s.startOther()()

	s.calm.Store(false)
	ctx, endFaults := context.WithCancel(t.Context())
	var faults, writers sync.WaitGroup
	if s.weather.cuts {
		faults.Go(func() { s.cutLeaders(ctx) })
	}
	if s.weather.deaths {
		for url := range s.workers.Storages {
			faults.Go(func() { s.killAndRestart(ctx, url) })
		}
	}
	faults.Go(func() { s.rotateKeys(ctx) })
	for _, name := range []string{"ann", "bob", "eve"} {
		writers.Go(func() { s.write(name) })
	}
	for _, name := range []string{"auditor", "witness"} {
		faults.Go(func() { s.audit(ctx, name) })
	}
	writers.Wait()
	endFaults()
	faults.Wait()
	s.network.late.Wait()
	s.calm.Store(true)
	s.settle()
	s.check()
	s.checkLiveness(t, d.once("forget", 20))
}

// configure configures the leader of a simulation and its environment.
func (s *simulation) configure(c *Config, r *rig) {
	d := s.dice
	rate := func(n int) int {
		if s.calm.Load() {
			return 0
		}
		return n
	}
	slow := func(who string, most time.Duration) time.Duration {
		if s.calm.Load() {
			return time.Millisecond
		}
		return d.within(who, most)
	}
	c.Settings.MaxRecords = uint32(1 + d.draw("settings", 8))
	c.Settings.Difficulty = uint8(1 + d.draw("settings", 4)) // at 0 no nonce would be wrong
	c.Settings.Replicas = uint8(1 + d.draw("settings", 2))
	c.Settings.RetainBytes = []uint64{0, 300, 1 << 20}[d.draw("settings", 3)]
	c.Settings.MaxPendingBytes = []uint64{2000, 1 << 20}[d.draw("settings", 2)]
	c.MaxAge = 10*time.Millisecond + d.within("settings", time.Second)
	c.CheckInterval = []time.Duration{0, 2 * time.Second}[d.draw("settings", 2)]
	c.Clock = s.clock.Now

	r.workers.Flaky = func(url string) error {
		if d.once(url+" flaky", rate(s.weather.calls)) {
			return masterstest.ErrDown
		}
		return nil
	}
	r.workers.Delay = func(url string) time.Duration { return slow(url+" delay", 30*time.Millisecond) }
	r.workers.Wrong = func(url string) bool { return d.once(url+" wrong", rate(s.weather.nonces)) }
	r.workers.Unable = func(url string) wire.CheckStatus {
		switch {
		case !d.once(url+" unable", rate(s.weather.unable)):
			return wire.CheckStatus{}
		case d.once(url+" unable", 2): // as a storage node of an earlier version says it
			return wire.CheckStatus{Report: &wire.Report{}}
		}
		return wire.CheckStatus{Error: "open segment 0: too many open files"}
	}
	r.ledger.Delay = func() time.Duration {
		if s.calm.Load() {
			return 0
		}
		return d.within("disk", 5*time.Millisecond)
	}
	r.ledger.Fate = func() masterstest.Fate {
		if !d.once("fate", rate(s.weather.outcomes)) {
			return masterstest.Committed
		}
		return []masterstest.Fate{masterstest.DeposedKept, masterstest.DeposedForgot}[d.draw("fate", 2)]
	}
	r.ledger.Vacancy = func() time.Duration {
		if s.weather.clocks { // the next leader has another error
			s.clock.SetWrong(time.Duration(d.draw("clock", 2*3600)-3600) * time.Second)
		}
		if d.once("vacancy", rate(12)) {
			return leaderWait + time.Second // longer than the timeout of a request
		}
		return d.within("vacancy", 400*time.Millisecond)
	}
	r.ledger.OnApply = s.applied
}

// applied checks an invariant after every command: a block that the masters count as stored is on the disks of enough
// nodes.
func (s *simulation) applied(table *masterfsm.State) {
	stored := table.Stored()
	if stored == s.stored {
		return
	}
	s.stored = stored
	copies := 0
	for _, n := range table.Storages() {
		disk := s.workers.Storages[n.URL]
		disk.Mu.Lock()
		if n.State.RetainsBlocks() && uint64(len(disk.Blocks)) >= stored {
			copies++
		}
		disk.Mu.Unlock()
	}
	if due := int(table.View().Settings.Replicas); copies < due {
		s.t.Errorf("%d blocks count as stored; of the nodes that count %d have them, %d are due", stored, copies, due)
	}
}

// startOther starts the parts of the other master that serve clients. stop ends them.
func (s *simulation) startOther() (stop func()) {
	s.network = &lossyMasters{
		Masters: masterAt(s.cfg.Member.URL, s.Node), leader: s.Node, dice: s.dice, weather: s.weather, calm: &s.calm,
	}
	s.network.Network = s.network.over
	cfg := s.cfg
	cfg.Member = wire.Member{ID: "m2", URL: "http://m2"}
	cfg.Ledger, cfg.Masters, cfg.Clock = otherLedger{s.ledger}, s.network, time.Now
	var err error
	if s.other, err = New(cfg); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.other.serve(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// cutLeaders deposes leaders.
func (s *simulation) cutLeaders(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, s.dice.within("cuts", time.Second))
		s.ledger.CutLeadership()
	}
}

// killAndRestart kills one storage node, or disconnects it, and brings it back.
func (s *simulation) killAndRestart(ctx context.Context, url string) {
	who := url + " deaths"
	for boot := 2; ctx.Err() == nil; boot++ {
		pause(ctx, s.dice.within(who, 3*time.Second))
		s.on(url, func(f *masterstest.Storage) { f.Down = true })
		pause(ctx, s.dice.within(who, 3*time.Second))
		if s.dice.once(who, 2) {
			s.on(url, func(f *masterstest.Storage) { f.Down = false }) // only the network was down
		} else {
			s.restart(s.t, url, fmt.Sprint(boot))
		}
	}
}

// pause waits in virtual time, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// settle waits until every record is in a stored block, and every node is Valid and at the head.
func (s *simulation) settle() {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	for {
		changed := s.ledger.StateChanged()
		var v masterfsm.View
		s.ledger.Read(func(table *masterfsm.State) { v = table.View() })
		settled := v.OpenRecords == 0 && v.Stored == v.OpenBlock && len(v.Storages) == simulatedStorages
		for i := range v.Storages {
			n := &v.Storages[i]
			settled = settled && n.State == masterfsm.Valid && n.Height == v.Head.Height && n.Due.IsZero()
		}
		if settled {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			s.t.Fatalf("not all nodes are Valid with all blocks: %+v, events %+v", v, s.Integrity(s.t.Context()).Events)
		}
	}
}

// otherLedger is the ledger of a master that never leads, and never lags.
type otherLedger struct{ *masterstest.Ledger }

func (otherLedger) Propose(context.Context, []byte) (any, error) { return nil, wire.ErrNotLeader }
func (otherLedger) ReadIndex(context.Context) (wire.ReadIndex, error) {
	return wire.ReadIndex{}, wire.ErrNotLeader
}

// lossyMasters delivers a master's calls to the leader. It loses calls and responses, and repeats submissions much
// later.
type lossyMasters struct {
	*masterstest.Masters
	leader  *Node
	dice    *dice
	weather weather
	calm    *atomic.Bool
	late    sync.WaitGroup // submissions to repeat later
}

var errLostCall, errLostAnswer = fmt.Errorf("%w: the call is lost", wire.ErrNoAnswer),
	fmt.Errorf("%w: the answer is lost", wire.ErrNoAnswer)

// over makes a call over the lossy network.
func (m *lossyMasters) over(ctx context.Context, _ string, call func() error) error {
	if m.calm.Load() {
		return call()
	}
	pause(ctx, m.dice.within("network", 20*time.Millisecond))
	if ctx.Err() != nil || m.dice.once("network", m.weather.calls) {
		return errLostCall
	}
	if err := call(); err != nil {
		return err
	}
	if m.dice.once("network", m.weather.answers) {
		return errLostAnswer
	}
	return nil
}

func (m *lossyMasters) Submit(ctx context.Context, url string, submission []byte, fresh bool) ([]byte, error) {
	if m.calm.Load() || !m.dice.once("network", m.weather.twice) {
		return m.Masters.Submit(ctx, url, submission, fresh)
	}
	wait, repeated := m.dice.within("network", 2*time.Second), bytes.Clone(submission)
	m.late.Go(func() {
		time.Sleep(wait)
		_, _ = m.leader.Submit(context.WithoutCancel(ctx), repeated) // the response is not used
	})
	answer, err := m.Masters.Submit(ctx, url, submission, fresh)
	if errors.Is(err, wire.ErrNotLeader) {
		// A connection delivers a call once. One that is refused for certain is not delivered again.
		err = errLostAnswer
	}
	return answer, err
}

// mayTryAgain reports whether a client retries after an error.
func mayTryAgain(err error) bool {
	return unknownOutcome(err) || errors.Is(err, wire.ErrNoLeader) || errors.Is(err, wire.ErrBacklog) ||
		errors.Is(err, wire.ErrUnavailable)
}

// unknownOutcome reports whether a failed append may still have taken effect.
func unknownOutcome(err error) bool { return errors.Is(err, wire.ErrUnknownOutcome) }
