package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/transparency-dev/formats/log"
	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/e2e/witness"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// served is a witness that can be stopped and restarted at its address with its cosigned state.
type served struct {
	*witness.Witness
	t       *testing.T
	name    string
	address string
	server  *http.Server // nil while it is stopped
	ended   chan error
}

func serveWitness(t *testing.T, name string) *served {
	t.Helper()
	w, err := witness.New(name)
	if err != nil {
		t.Fatal(err)
	}
	s := &served{Witness: w, t: t, name: name, address: "127.0.0.1:0"}
	s.up()
	t.Cleanup(func() {
		if s.server != nil {
			s.down()
		}
	})
	return s
}

func (s *served) up() {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = listener.Addr().String()
	server, ended := &http.Server{Handler: s.Witness}, make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	s.server, s.ended = server, ended
}

func (s *served) down() {
	s.t.Helper()
	if err := s.server.Close(); err != nil {
		s.t.Error(err)
	}
	<-s.ended
	s.server = nil
}

// follower is an outside client that follows the log through all masters.
type follower struct {
	c       *cluster
	masters []*client.Client // without retries
	origin  string
	keys    []note.Verifier // of the log, then of the witnesses
	roots   map[uint64]string
	newest  uint64
}

func (c *cluster) follow(witnesses ...*served) *follower {
	c.t.Helper()
	l, err := c.masters[0].Log(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	f := &follower{c: c, origin: l.Origin, roots: map[uint64]string{}}
	for _, url := range c.File().Masters {
		f.masters = append(f.masters, c.clientOnce(url))
	}
	own, err := note.NewVerifier(l.Keys[0].VerifierKey)
	if err != nil {
		c.t.Fatal(err)
	}
	f.keys = append(f.keys, own)
	for _, w := range witnesses {
		w.Know(l.Origin, l.Keys[0].VerifierKey)
		v, err := formats.NewVerifierForCosignatureV1(w.VKey())
		if err != nil {
			c.t.Fatal(err)
		}
		f.keys = append(f.keys, v)
	}
	return f
}

// checkpoint requests the checkpoint of each master. It checks the signatures, and the consistency with
// earlier checkpoints. It returns the size, and the witnesses that have signed.
func (f *follower) checkpoint() (size uint64, names []string, err error) {
	f.c.t.Helper()
	for _, m := range f.masters {
		ctx, cancel := context.WithTimeout(f.c.t.Context(), statusTimeout)
		signed, failed := m.Checkpoint(ctx)
		cancel()
		if failed != nil {
			err = failed // a master that is down, or has no leader
			continue
		}
		p, rest, n, err := log.ParseCheckpoint(signed, f.origin, f.keys[0], f.keys[1:]...)
		if err != nil || len(rest) > 0 || len(n.UnverifiedSigs) > 0 {
			f.c.t.Fatalf("%v\n%s", err, signed)
		}
		root, known := f.roots[p.Size]
		if known && root != string(p.Hash) || p.Size < f.newest {
			f.c.t.Fatalf("%d leaves were shown, and now this:\n%s", f.newest, signed)
		}
		f.roots[p.Size], f.newest = string(p.Hash), p.Size
		size, names = p.Size, nil
		for _, s := range n.Sigs[1:] {
			names = append(names, s.Name)
		}
		if p.Size > 0 && len(names) == 0 {
			f.c.t.Fatalf("it is shown, and no witness has cosigned it:\n%s", signed)
		}
	}
	if f.newest == 0 && err != nil {
		return 0, nil, err
	}
	return size, names, nil
}

// awaitCosigned waits until a checkpoint of all stored records is served, cosigned by exactly these witnesses.
func (f *follower) awaitCosigned(by ...*served) {
	f.c.t.Helper()
	var want []string
	for _, w := range by {
		want = append(want, w.name)
	}
	f.c.await(fmt.Sprintf("a checkpoint cosigned by %v", want), func() string {
		s, err := f.c.status()
		if err != nil {
			return err.Error()
		}
		size, names, err := f.checkpoint()
		if err != nil || size < s.Checkpoint.Size || !slices.Equal(slices.Sorted(slices.Values(names)), want) {
			return fmt.Sprintf("%d leaves of %d are shown, cosigned by %v, %v; %q", size, s.Checkpoint.Size, names, err,
				s.Notices)
		}
		return ""
	})
}

// awaitState waits until the leader reports a state of a witness.
func (f *follower) awaitState(w *served, state wire.WitnessState) {
	f.c.t.Helper()
	f.c.await(fmt.Sprintf("%s is %s", w.name, state), func() string {
		l, err := f.c.masters[len(f.c.masters)-1].Log(f.c.t.Context())
		if err != nil {
			return err.Error()
		}
		for _, one := range l.Witnesses {
			if one.Name == w.name && one.State == state {
				return ""
			}
		}
		return fmt.Sprintf("%+v", l.Witnesses)
	})
}

// figures returns the metrics of a master.
func (c *cluster) figures(master string) []byte {
	c.t.Helper()
	response, err := http.Get(roleOf(c.Topology(), master).URL() + "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	figures, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		c.t.Fatal(response.Status, err)
	}
	return figures
}

// TestWitnesses checks that two witnesses cosign what three masters sign, while one witness stops, the leader is
// killed, and all return. Without any witness the masters must accept and store records, but serve no newer checkpoint.
func TestWitnesses(t *testing.T) {
	one, two := serveWitness(t, "witness.example/one"), serveWitness(t, "witness.example/two")
	c := startWith(t, func(topology *devcluster.Topology) {
		topology.Origin = "example.com/cosigned"
		topology.Settings.WitnessQuorum = 1
		for _, w := range []*served{one, two} {
			topology.Witnesses = append(topology.Witnesses, w.VKey()+" http://"+w.address+"/")
		}
	})
	o := newOracle()

	// The witnesses do not know the log yet.
	c.appendStored(o, "before the witnesses know the log")
	if down := c.awaitNotice(wire.CodeWitnessDown); down.Args["state"] != string(wire.WitnessRefused) {
		t.Errorf("%+v", down)
	}
	c.awaitNotice(wire.CodeTooFewWitnesses)
	f := c.follow(one, two)
	f.awaitCosigned(one, two)
	f.awaitState(one, wire.WitnessOK)

	two.down()
	c.appendEach(o, "one is down", some, c.masters...)
	c.awaitStored()
	f.awaitCosigned(one)
	f.awaitState(two, wire.WitnessDown)

	// The next leader continues at the sizes that the table has for the witnesses.
	killed := c.leader("")
	c.kill(killed)
	c.leader(killed)
	everywhere := c.client(c.File().Masters...)
	c.appendEach(o, "the leader was killed", some, everywhere)
	f.awaitCosigned(one)
	two.up()
	c.appendEach(o, "the other is back", some, everywhere)
	c.awaitStored() // no newer checkpoint follows
	f.awaitCosigned(one, two)
	c.launch(killed)
	f.awaitState(two, wire.WitnessOK)

	one.down()
	two.down()
	_, before, err := f.checkpoint()
	if err != nil || len(before) != 2 {
		t.Fatalf("%v, %v", before, err)
	}
	shown := f.newest
	c.appendEach(o, "none is there", some, everywhere)
	c.awaitStored()
	c.awaitNotice(wire.CodeTooFewWitnesses)
	if size, _, err := f.checkpoint(); err != nil || size != shown {
		t.Errorf("%d leaves are shown after %d, %v", size, shown, err)
	}
	one.up()
	two.up()
	f.awaitCosigned(one, two)
	if size := one.Size(f.origin); size != f.newest || two.Size(f.origin) != size {
		t.Errorf("%d leaves are shown, the witnesses have %d and %d", f.newest, size, two.Size(f.origin))
	}
	figures := c.figures(c.leader(""))
	for _, line := range []string{"chainstore_witness_ok{witness=\"witness.example/one\"} 1",
		fmt.Sprintf("chainstore_cosigned_leaves %d\n", f.newest)} {
		if !bytes.Contains(figures, []byte(line)) {
			t.Errorf("no %q in /metrics", line)
		}
	}
	c.verify(o)
}
