package masternode

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// journal is a logger output that a test reads.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: j})
}

// logKeys returns the log's keys in the table.
func logKeys(r *rig) masterfsm.Log { return table(r, (*masterfsm.State).Log) }

// TestRotation checks that both keys sign while both are present. A retired key signs no more, and is not accepted
// again.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		r := newRig(t, 2, func(c *Config, _ *rig) { c.Logger = j.logger() })
		defer r.stop()
		r.store(t)
		first := logKeys(r).Keys[0]
		added, err := r.AddLogKey(t.Context())
		if err != nil || added.ID == first.ID || added.VerifierKey == "" {
			t.Fatalf("%+v, %v", added, err)
		}
		r.checked(t) // by both
		if err := r.RetireLogKey(t.Context(), "00000000"); !errors.Is(err, masterfsm.ErrUnknownLogKey) {
			t.Errorf("a key that is not there: %v", err)
		}
		if err := r.RetireLogKey(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		c := r.checked(t)
		keys := logKeys(r)
		if len(keys.Signing()) != 1 || bytes.Count(c.Note, []byte("\n— ")) != 1 {
			t.Errorf("%s", c.Note)
		}
		old, err := note.NewVerifier(keys.VerifierKey(&first))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := note.Open(c.Note, note.VerifierList(old)); err == nil {
			t.Errorf("the retired key signed\n%s", c.Note)
		}
		if err := r.RetireLogKey(t.Context(), added.ID); !errors.Is(err, wire.ErrLastKey) {
			t.Errorf("the last key: %v", err)
		}
		if err := r.RetireLogKey(t.Context(), first.ID); err != nil {
			t.Errorf("retired twice: %v", err)
		}
		told, err := r.Log(t.Context())
		if err != nil || told.Origin != keys.Origin || len(told.Keys) != 2 || told.Keys[0].Retired == 0 ||
			told.Keys[1] != added || *told.Size != 2 {
			t.Errorf("%+v, %v", told, err)
		}
		for len(logKeys(r).Signing()) < masterfsm.MaxLogKeys {
			if _, err := r.AddLogKey(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.AddLogKey(t.Context()); !errors.Is(err, wire.ErrTooMany) {
			t.Errorf("one too many: %v", err)
		}
		r.checked(t)

		// The private parts of the keys appear only under their seals.
		private, err := signing.OpenKeys(r.cfg.Log.Secret(), "cs-test", logKeys(r))
		if err != nil || len(private) != masterfsm.MaxLogKeys {
			t.Fatalf("%d keys, %v", len(private), err)
		}
		var snapshot bytes.Buffer
		if err := table(r, (*masterfsm.State).Snapshot).Write(&snapshot); err != nil {
			t.Fatal(err)
		}
		for _, k := range private {
			if printsKey(snapshot.Bytes(), k) || printsKey([]byte(j.String()), k) ||
				printsKey(fmt.Appendf(nil, "%+v", r.Cluster(t.Context())), k) {
				t.Fatal("a private key is in a snapshot, a log line or the status")
			}
		}
	})
}

// TestAnotherClusterToken checks that a master with a different cluster token reports this and signs nothing, while
// everything else works. It signs again once it is given the key.
func TestAnotherClusterToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, _ := newLogKeyUnder(t, "example.com/log", signing.Sealer{Values: []string{"any"}})
		var ledger *masterstest.Ledger
		r := newRig(t, 2, func(c *Config, r *rig) { c.Log.Key, ledger = key, r.ledger })
		r.store(t)
		before := r.checked(t)
		r.stop()

		j := &journal{}
		cfg := r.cfg
		cfg.Log, cfg.Logger = signing.LogConfig{Secret: signing.Fixed("another token")}, j.logger()
		start := func() *rig {
			cfg.Boot++
			n, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			other := &rig{Node: n, ledger: ledger, workers: r.workers, members: r.members, project: r.project}
			other.stop = run(t, n)
			time.Sleep(fenceWait) // its storage nodes have accepted its first order by then
			synctest.Wait()
			return other
		}
		other := start()
		for range 2 {
			if c, err := other.Checkpoint(t.Context()); !errors.Is(err, signing.ErrNoLogKey) || c.Note != nil ||
				!strings.Contains(err.Error(), "cluster token") {
				t.Errorf("%q, %v", c.Note, err)
			}
		}
		if _, err := other.AddLogKey(t.Context()); !errors.Is(err, signing.ErrNoLogKey) {
			t.Errorf("a key that the others could not open: %v", err)
		}
		other.store(t)
		if n := strings.Count(j.String(), "no checkpoint can be signed"); n != 1 {
			t.Errorf("said %d times", n)
		}
		if !strings.Contains(j.String(), "another cluster token") ||
			noticeOf(other.Node, wire.CodeNoCheckpoint).IsZero() {
			t.Errorf("nobody is told: %s", j)
		}
		other.stop()

		cfg.Log.Key = key
		other = start()
		defer other.stop()
		if c := other.checked(t); c.Boundary.Size <= before.Boundary.Size || len(logKeys(other).Keys) != 1 {
			t.Errorf("%+v after %+v, %d keys", c.Boundary, before.Boundary, len(logKeys(other).Keys))
		}
	})
}

// run runs a master until stop is called, and waits until it is the leader.
func run(t *testing.T, n *Node) (stop func()) {
	t.Helper()
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- n.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// TestLogFlags has a row for each combination of a master's log flags. It checks the resulting log and the notice.
func TestLogFlags(t *testing.T) {
	given, _ := newLogKeyUnder(t, "example.com/log", signing.Sealer{Values: []string{"any"}})
	second, _ := newLogKeyUnder(t, "example.com/log", signing.Sealer{Values: []string{"any"}})
	foreign, _ := newLogKeyUnder(t, "example.com/other", signing.Sealer{Values: []string{"any"}})
	for name, c := range map[string]struct {
		first, then signing.LogConfig // of the founding leader, and of the next leader
		retire      bool              // retire the first key in between, once there is a second
		origin      string
		keys        int    // number of keys in the end, -1 for no change
		notice      string // its code
	}{
		"nothing": {origin: "chainstore/cs-test", keys: 1},
		"an origin": {first: signing.LogConfig{Origin: "example.com/log"},
			then: signing.LogConfig{Origin: "example.com/log"}, origin: "example.com/log", keys: 1},
		"a key": {first: signing.LogConfig{Key: given}, then: signing.LogConfig{Key: given},
			origin: "example.com/log", keys: 1},
		"a key and its origin": {first: signing.LogConfig{Key: given, Origin: "example.com/log"},
			origin: "example.com/log", keys: 1},
		"a key that comes later": {first: signing.LogConfig{Key: given}, then: signing.LogConfig{Key: second},
			origin: "example.com/log", keys: 2},
		"another origin": {then: signing.LogConfig{Origin: "example.com/log"}, origin: "chainstore/cs-test",
			keys: 1, notice: wire.CodeOriginIgnored},
		"a key of another origin": {first: signing.LogConfig{Key: given}, then: signing.LogConfig{Key: foreign},
			origin: "example.com/log", keys: 1, notice: wire.CodeCheckpointKeyForeign},
		"a retired key": {first: signing.LogConfig{Key: given}, then: signing.LogConfig{Key: given},
			retire: true, origin: "example.com/log", keys: 2, notice: wire.CodeCheckpointKeyRetired},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 0, func(cfg *Config, _ *rig) {
					cfg.Log.Origin, cfg.Log.Key = c.first.Origin, c.first.Key
				})
				if c.retire {
					if _, err := r.AddLogKey(t.Context()); err != nil {
						t.Fatal(err)
					}
					if err := r.RetireLogKey(t.Context(), logKeys(r).Keys[0].ID); err != nil {
						t.Fatal(err)
					}
				}
				r.stop()
				j := &journal{}
				cfg := r.cfg
				cfg.Log.Origin, cfg.Log.Key, cfg.Logger = c.then.Origin, c.then.Key, j.logger()
				n, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer run(t, n)()
				r.Node = n
				r.checked(t)
				if l := logKeys(r); l.Origin != c.origin || len(l.Keys) != c.keys {
					t.Errorf("origin %s, %d keys", l.Origin, len(l.Keys))
				}
				for _, code := range []string{
					wire.CodeOriginIgnored, wire.CodeCheckpointKeyForeign, wire.CodeCheckpointKeyRetired,
					wire.CodeCheckpointKeyWaits,
				} {
					m := r.notice(code)
					if m.IsZero() == (code == c.notice) || !strings.Contains(j.String(), m.Text()) {
						t.Errorf("%s: %+v, log %s", code, m, j)
					}
				}
			})
		})
	}
	for name, c := range map[string]signing.LogConfig{
		"no token":             {},
		"no name":              {Secret: signing.Fixed("x"), Origin: "two words"},
		"a key of another log": {Secret: signing.Fixed("x"), Origin: "example.com/log", Key: foreign},
	} {
		if err := c.Check(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestDeposedWhileFounding checks that a leader that is deposed while it creates the first key leaves at most one key,
// and that the next leader does not add another one.
func TestDeposedWhileFounding(t *testing.T) {
	for name, fates := range map[string][]masterstest.Fate{
		"committed after all": {masterstest.Committed, masterstest.DeposedKept},
		"forgotten":           {masterstest.Committed, masterstest.DeposedForgot},
		"again and again": {masterstest.Committed, masterstest.DeposedForgot, masterstest.Committed,
			masterstest.DeposedForgot, masterstest.Committed, masterstest.DeposedKept, masterstest.Committed},
		"before the term is begun": {masterstest.DeposedKept, masterstest.Committed, masterstest.DeposedKept},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ledger := masterstest.NewLedger(t)
				// The fates apply to the commands that found the log only, in order.
				if _, err := ledger.State.Apply(
					masterfsm.Encode(&masterfsm.RaiseLevel{Level: masterstest.Level})); err != nil {
					t.Fatal(err)
				}
				var asked atomic.Int64
				ledger.Fate = func() masterstest.Fate {
					if n := int(asked.Add(1)); n <= len(fates) {
						return fates[n-1]
					}
					return masterstest.Committed
				}
				n, err := New(Config{
					Member: wire.Member{ID: "m1", URL: "http://m1"}, Boot: 1, Ledger: ledger,
					Membership: masterstest.NewMembership(), Masters: masterstest.NewMasters(),
					Workers: masterstest.NewWorkers(t, 0), Limits: DefaultLimits(), Logger: hclog.NewNullLogger(),
					Options: leader.Options{
						Settings: masterfsm.DefaultSettings(),
						Log:      signing.LogConfig{Secret: signing.Fixed("cluster token")},
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				defer run(t, n)()
				time.Sleep(time.Minute) // virtual time
				r := &rig{Node: n, ledger: ledger}
				r.checked(t)
				if l := logKeys(r); len(l.Keys) != 1 || int(asked.Load()) < len(fates) {
					t.Errorf("%d keys after %d commands", len(l.Keys), asked.Load())
				}
			})
		})
	}
}

// TestCosignedCheckpoint checks that cosignatures follow the log's signatures, and that with a quorum a checkpoint is
// served once it has enough of them.
func TestCosignedCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 2, "w1", "w2")
		defer r.stop()
		for _, name := range []string{"w1", "w2"} { // the test writes the cosignatures into the table itself
			f.change(name, func(w *fakeWitness) { w.before = func(context.Context) error { return wire.ErrNoAnswer } })
		}
		r.store(t)
		if c := r.checked(t); c.Boundary.Size != 0 {
			t.Errorf("shown before it was cosigned: %+v", c.Boundary)
		}
		stored := table(r, (*masterfsm.State).Checkpoint)
		unsigned, err := r.signer.Sign(r.cfg.Log.Sealer("cs-test"), logKeys(r), masterfsm.Cosigned{Boundary: stored})
		if err != nil {
			t.Fatal(err)
		}
		cosign := &masterfsm.Cosign{Size: stored.Size, Root: stored.Root, Time: r.leader.Now()}
		var known []note.Verifier
		for _, name := range []string{"witness.example/b", "witness.example/a"} {
			line, v := cosigned(t, name, unsigned)
			cosign.Cosignatures = append(cosign.Cosignatures, masterfsm.Cosignature{Witness: name, Line: line})
			known = append(known, v)
		}
		if _, err := r.leader.Propose(t.Context(), cosign); err != nil {
			t.Fatal(err)
		}
		c := r.checked(t)
		if c.Boundary != stored || !bytes.HasPrefix(c.Note, unsigned) {
			t.Errorf("%+v\n%s", c.Boundary, c.Note)
		}
		n, err := note.Open(c.Note, note.VerifierList(append(known, verifiers(t, logKeys(r))...)...))
		if err != nil || len(n.Sigs) != 3 || len(n.UnverifiedSigs) != 0 {
			t.Errorf("%v\n%s", err, c.Note)
		}
	})
}

// cosigned returns a witness's signature line for a note, and its verifier.
func cosigned(t *testing.T, name string, checkpoint []byte) (string, note.Verifier) {
	t.Helper()
	key, err := signing.NewKey(name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := fnote.NewSignerForCosignatureV1(key.Text())
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := bytes.Cut(checkpoint, []byte("\n\n"))
	sig, err := signer.Sign(append(bytes.Clone(text), '\n'))
	if err != nil {
		t.Fatal(err)
	}
	hash := signer.KeyHash()
	raw := append([]byte{byte(hash >> 24), byte(hash >> 16), byte(hash >> 8), byte(hash)}, sig...)
	return "— " + name + " " + base64.StdEncoding.EncodeToString(raw), signer.Verifier()
}

// TestNoCheckpointWithoutALeader checks that no checkpoint is served without a leader, because a newer one may have
// been served elsewhere.
func TestNoCheckpointWithoutALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, nil)
		defer r.stop()
		r.store(t)
		r.checked(t)
		r.ledger.SetConfirm(func() error { return wire.ErrNotLeader })
		if c, err := r.Checkpoint(t.Context()); !errors.Is(err, wire.ErrNoLeader) || c.Note != nil {
			t.Errorf("%q, %v", c.Note, err)
		}
		if c, err := r.checkpointHere(); err != nil || c.Boundary.Size != 2 {
			t.Errorf("%+v, %v", c.Boundary, err)
		}
	})
}

// TestFirstKeyWaitsForAllVoters checks that the leader does not create the first log key, and reports this, until all
// voters know log keys. A master of an older version would stop at the command.
func TestFirstKeyWaitsForAllVoters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		masters := newGroupMasters()
		masters.setLevel("m2", 0)
		r := newRig(t, 2, func(c *Config, r *rig) {
			c.Masters = masters
			r.members.List = append(r.members.List, wire.Master{ID: "m2", Raft: "m2:1", Voter: true},
				wire.Master{ID: "m3", Raft: "m3:1"})
		})
		defer r.stop()
		old := member("m2")
		masters.set(old)
		if _, err := r.Announce(t.Context(), old, false); err != nil {
			t.Fatal(err)
		}
		waits := func() bool {
			nodes, _ := r.notice(wire.CodeLogKeyWaits).Args["nodes"].([]string)
			return slices.Equal(nodes, []string{"m2"})
		}
		r.store(t)
		if n := len(logKeys(r).Keys); n != 0 || !waits() {
			t.Fatalf("%d keys, of which m2 does not know; notices %q", n, r.Cluster(t.Context()).Notices)
		}
		if _, err := r.Checkpoint(t.Context()); !errors.Is(err, signing.ErrNoLogKey) {
			t.Error(err)
		}
		old.Signs = true // it was restarted with commit b74b8ae
		masters.set(old)
		time.Sleep(5 * time.Second)
		if c := r.checked(t); c.Boundary.Size != 2 || waits() {
			t.Errorf("%+v; notices %q", c.Boundary, r.Cluster(t.Context()).Notices)
		}
		if !r.Member().Signs {
			t.Error("this master does not say that it knows log keys")
		}
	})
}

// TestRetireWhatOpens checks that the only key that opens with the cluster token cannot be retired, even if others
// sign.
func TestRetireWhatOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, _ := newLogKeyUnder(t, "example.com/log", signing.Sealer{Values: []string{"any"}})
		r := newRig(t, 0, func(c *Config, _ *rig) { c.Log.Key = key })
		other, err := r.AddLogKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.stop()
		cfg := r.cfg
		cfg.Log.Secret = signing.Fixed("another token") // only one of the two keys opens with it
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.Node, r.stop = n, run(t, n)
		defer func() { r.stop() }()
		first := logKeys(r).Keys[0].ID
		if err := r.RetireLogKey(t.Context(), first); !errors.Is(err, wire.ErrLastKey) ||
			!strings.Contains(err.Error(), "--checkpoint-key") {
			t.Errorf("the only key that opens is retired: %v", err)
		}
		if err := r.RetireLogKey(t.Context(), other.ID); err != nil {
			t.Errorf("a key that does not open: %v", err)
		}
		r.checked(t)
	})
}

// TestFollowerTellsOfItsFlags checks that a follower reports its own log flags that are not in effect, since the leader
// does not know them.
func TestFollowerTellsOfItsFlags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, _ := newLogKeyUnder(t, "chainstore/cs-test", signing.Sealer{Values: []string{"any"}})
		r := newRig(t, 0, nil)
		defer r.stop()
		cfg := r.cfg
		cfg.Log.Key, cfg.Masters = key, masterAt("http://m1", noticeLeader{})
		cfg.Member.ID = "m2"
		n, err := New(cfg) // another master of the group, which is not the leader
		if err != nil {
			t.Fatal(err)
		}
		c := n.Cluster(t.Context())
		want := wire.Message{
			Code: wire.CodeMasterNotice,
			Args: wire.Args{"node": "m2", "cause": wire.Message{Code: wire.CodeCheckpointKeyWaits}},
		}
		if !reflect.DeepEqual(c.NoticesCoded, []wire.Message{want}) ||
			!slices.Equal(c.Notices, []string{"of the leader", want.Text()}) {
			t.Errorf("notices %q, %+v", c.Notices, c.NoticesCoded)
		}
	})
}

// noticeLeader is a leader before protocol level 2, with a notice.
type noticeLeader struct{ masterstest.Follower }

func (noticeLeader) LeaderCluster(context.Context) (wire.Cluster, error) {
	return wire.Cluster{Notices: []string{"of the leader"}}, nil
}

// newLogKeyUnder returns a key, and its row in the table when it is sealed with a secret.
func newLogKeyUnder(t *testing.T, origin string, secret signing.Sealer) (*signing.Key, masterfsm.LogKey) {
	t.Helper()
	k, err := signing.NewKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := secret.Seal(k)
	if err != nil {
		t.Fatal(err)
	}
	return k, masterfsm.LogKey{ID: "0123abcd", Public: k.Public(), Sealed: sealed}
}

// printsKey reports whether data contains the private part of a key, in any form in which keys are written.
func printsKey(data []byte, k *signing.Key) bool {
	text := strings.SplitN(k.Text(), "+", 5)[4]
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	seed := raw[1:]
	for _, form := range []string{
		string(seed), hex.EncodeToString(seed), base64.StdEncoding.EncodeToString(seed),
		text, fmt.Sprint(seed), fmt.Sprint(seed[:4])[1:], "PRIVATE+KEY",
	} {
		if bytes.Contains(data, []byte(strings.TrimSuffix(form, "]"))) {
			return true
		}
	}
	return false
}
