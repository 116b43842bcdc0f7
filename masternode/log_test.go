package masternode

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/masterfsm"
)

// journal is a log that a test reads.
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

// logKeys are the log's keys as the table has them.
func logKeys(r *rig) masterfsm.Log { return table(r, (*masterfsm.State).Log) }

// Both keys sign while both are there; the retired one signs no more, and is not taken back.
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
		if err := r.RetireLogKey(t.Context(), added.ID); !errors.Is(err, masterfsm.ErrLastLogKey) {
			t.Errorf("the last key: %v", err)
		}
		if err := r.RetireLogKey(t.Context(), first.ID); err != nil {
			t.Errorf("retired twice: %v", err)
		}
		told, err := r.Log(t.Context())
		if err != nil || told.Origin != keys.Origin || len(told.Keys) != 2 || told.Keys[0].Retired == 0 || told.Keys[1] != added || *told.Size != 2 {
			t.Errorf("%+v, %v", told, err)
		}
		for len(logKeys(r).Signing()) < masterfsm.MaxLogKeys {
			if _, err := r.AddLogKey(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.AddLogKey(t.Context()); !errors.Is(err, masterfsm.ErrTooMany) {
			t.Errorf("one too many: %v", err)
		}
		r.checked(t)

		// Of no key is the private part anywhere but under its seal.
		private, err := OpenLogKeys(r.cfg.Log.Secret, "cs-test", logKeys(r))
		if err != nil || len(private) != masterfsm.MaxLogKeys {
			t.Fatalf("%d keys, %v", len(private), err)
		}
		var snapshot bytes.Buffer
		if _, err := table(r, (*masterfsm.State).Snapshot).WriteTo(&snapshot); err != nil {
			t.Fatal(err)
		}
		for _, k := range private {
			if leaks(snapshot.Bytes(), k) || leaks([]byte(j.String()), k) || leaks(fmt.Appendf(nil, "%+v", r.Cluster(t.Context())), k) {
				t.Fatal("a private key is in a snapshot, a log line or the status")
			}
		}
	})
}

// A master that is started with another cluster token says so and signs nothing; all else goes on. It signs again once it is given the key.
func TestAnotherClusterToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, _ := newKey(t, "example.com/log", logSecret{})
		var ledger *fakeLedger
		r := newRig(t, 2, func(c *Config, r *rig) { c.Log.Key, ledger = key, r.ledger })
		r.store(t)
		before := r.checked(t)
		r.stop()

		j := &journal{}
		cfg := r.cfg
		cfg.Log, cfg.Logger = LogConfig{Secret: "another token"}, j.logger()
		start := func() *rig {
			cfg.Boot++
			n, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			other := &rig{Node: n, ledger: ledger, workers: r.workers, members: r.members, project: r.project}
			other.stop = run(t, n)
			return other
		}
		other := start()
		for range 2 {
			if c, err := other.Checkpoint(t.Context()); !errors.Is(err, ErrNoLogKey) || c.Note != nil || !strings.Contains(err.Error(), "cluster token") {
				t.Errorf("%q, %v", c.Note, err)
			}
		}
		if _, err := other.AddLogKey(t.Context()); !errors.Is(err, ErrNoLogKey) {
			t.Errorf("a key that the others could not open: %v", err)
		}
		other.store(t)
		if n := strings.Count(j.String(), "no checkpoint can be signed"); n != 1 {
			t.Errorf("said %d times", n)
		}
		if !strings.Contains(j.String(), "another cluster token") || !strings.Contains(strings.Join(other.Cluster(t.Context()).Notices, "\n"), "another cluster token") {
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

// run runs a master until stop is called, and waits until it leads.
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

// What a master's flags ask of a log, by rows: what the log becomes, and what somebody is told.
func TestLogFlags(t *testing.T) {
	given, _ := newKey(t, "example.com/log", logSecret{})
	second, _ := newKey(t, "example.com/log", logSecret{})
	foreign, _ := newKey(t, "example.com/other", logSecret{})
	for name, c := range map[string]struct {
		first, then LogConfig // of the founding leader, and of the one that leads next
		retire      bool      // the first key, in between, when a second is there
		origin      string
		keys        int // of the log in the end, -1 for as many as there were
		notice      string
	}{
		"nothing":                 {origin: "chainstore/cs-test", keys: 1},
		"an origin":               {first: LogConfig{Origin: "example.com/log"}, then: LogConfig{Origin: "example.com/log"}, origin: "example.com/log", keys: 1},
		"a key":                   {first: LogConfig{Key: given}, then: LogConfig{Key: given}, origin: "example.com/log", keys: 1},
		"a key and its origin":    {first: LogConfig{Key: given, Origin: "example.com/log"}, origin: "example.com/log", keys: 1},
		"a key that comes later":  {first: LogConfig{Key: given}, then: LogConfig{Key: second}, origin: "example.com/log", keys: 2},
		"another origin":          {then: LogConfig{Origin: "example.com/log"}, origin: "chainstore/cs-test", keys: 1, notice: "--origin example.com/log changes nothing"},
		"a key of another origin": {first: LogConfig{Key: given}, then: LogConfig{Key: foreign}, origin: "example.com/log", keys: 1, notice: "is one of example.com/other and is not used"},
		"a retired key":           {first: LogConfig{Key: given}, then: LogConfig{Key: given}, retire: true, origin: "example.com/log", keys: 2, notice: "is retired and is not used again"},
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
				notices := strings.Join(r.Cluster(t.Context()).Notices, "\n")
				if c.notice == "" && strings.Contains(notices, "log") || !strings.Contains(notices, c.notice) || !strings.Contains(j.String(), c.notice) {
					t.Errorf("notices %q, log %s", notices, j)
				}
			})
		})
	}
	for name, c := range map[string]LogConfig{
		"no token":             {},
		"no name":              {Secret: "x", Origin: "two words"},
		"a key of another log": {Secret: "x", Origin: "example.com/log", Key: foreign},
	} {
		if err := c.validate(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A leader that is deposed while it founds the first key leaves one or none, and the next one leaves it at that.
func TestDeposedWhileFounding(t *testing.T) {
	for name, fates := range map[string][]fate{
		"committed after all":      {committed, deposedKept},
		"forgotten":                {committed, deposedForgot},
		"again and again":          {committed, deposedForgot, committed, deposedForgot, committed, deposedKept, committed},
		"before the term is begun": {deposedKept, committed, deposedKept},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ledger := newFakeLedger(t)
				asked := 0
				ledger.fate = func() fate {
					if asked++; asked <= len(fates) {
						return fates[asked-1]
					}
					return committed
				}
				n, err := New(Config{
					Member: wire.Member{ID: "m1", URL: "http://m1"}, Boot: 1, Ledger: ledger, Membership: newFakeMembership(), Masters: noMasters{},
					Workers: newFakeWorkers(t, 0), Settings: masterfsm.DefaultSettings(), Limits: DefaultLimits(),
					Log: LogConfig{Secret: "cluster token"}, Logger: hclog.NewNullLogger(),
				})
				if err != nil {
					t.Fatal(err)
				}
				defer run(t, n)()
				time.Sleep(time.Minute) // of the bubble's time
				r := &rig{Node: n, ledger: ledger}
				r.checked(t)
				if l := logKeys(r); len(l.Keys) != 1 || asked < len(fates) {
					t.Errorf("%d keys after %d commands", len(l.Keys), asked)
				}
			})
		})
	}
}

// Cosignatures stand behind the log's signatures, and with a quorum a checkpoint is shown when it has them.
func TestCosignedCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, func(c *Config, _ *rig) { c.Settings.WitnessQuorum = 2 })
		defer r.stop()
		r.store(t)
		if c := r.checked(t); c.Boundary.Size != 0 {
			t.Errorf("shown before it was cosigned: %+v", c.Boundary)
		}
		stored := table(r, (*masterfsm.State).Checkpoint)
		unsigned, err := r.notary.sign(r.logSecret("cs-test"), logKeys(r), masterfsm.Cosigned{Boundary: stored})
		if err != nil {
			t.Fatal(err)
		}
		cosign := &masterfsm.Cosign{Size: stored.Size, Root: stored.Root, Time: r.now()}
		var known []note.Verifier
		for _, name := range []string{"witness.example/b", "witness.example/a"} {
			line, v := cosigned(t, name, unsigned)
			cosign.Cosignatures = append(cosign.Cosignatures, masterfsm.Cosignature{Witness: name, Line: line})
			known = append(known, v)
		}
		if _, err := r.propose(t.Context(), cosign); err != nil {
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

// cosigned is a witness's signature line of a note, and what it is verified with.
func cosigned(t *testing.T, name string, checkpoint []byte) (string, note.Verifier) {
	t.Helper()
	key, err := NewLogKey(name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := fnote.NewSignerForCosignatureV1(key.Text())
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := bytes.Cut(checkpoint, []byte("\n\n"))
	sig, err := signer.Sign(append(text, '\n'))
	if err != nil {
		t.Fatal(err)
	}
	hash := signer.KeyHash()
	raw := append([]byte{byte(hash >> 24), byte(hash >> 16), byte(hash >> 8), byte(hash)}, sig...)
	return "— " + name + " " + base64.StdEncoding.EncodeToString(raw), signer.Verifier()
}

// Without a leader nobody knows whether a newer checkpoint was shown.
func TestNoCheckpointWithoutALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, nil)
		defer r.stop()
		r.store(t)
		r.checked(t)
		r.ledger.confirm = func() error { return ErrNotLeader }
		if c, err := r.Checkpoint(t.Context()); !errors.Is(err, ErrNoLeader) || c.Note != nil {
			t.Errorf("%q, %v", c.Note, err)
		}
		if c, err := r.checkpointHere(); err != nil || c.Boundary.Size != 2 {
			t.Errorf("%+v, %v", c.Boundary, err)
		}
	})
}
