package masternode

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/e2e/witness"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// fakeWitnesses holds specification-conforming witnesses by URL, and injects faults into the calls to them. It asserts
// that no witness has two submissions in flight.
type fakeWitnesses struct {
	t    *testing.T
	mu   sync.Mutex // guards the fields below, and the witnesses
	list map[string]*fakeWitness
}

type fakeWitness struct {
	*witness.Witness
	underWay bool
	asked    []asked
	// before runs before a submission reaches the witness, after runs with its response. Either may end the call with
	// an error.
	before func(ctx context.Context) error
	after  func(answer []byte) ([]byte, error)
}

// asked is a submission.
type asked struct {
	at        time.Time
	old, size uint64
}

// add creates a witness with a name, and returns its configuration.
func (f *fakeWitnesses) add(name string) signing.Witness {
	f.t.Helper()
	w, err := witness.New(name)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.join(w, name)
}

func (f *fakeWitnesses) join(w *witness.Witness, name string) signing.Witness {
	f.t.Helper()
	url := "http://" + name
	f.list[url] = &fakeWitness{Witness: w}
	parsed, err := signing.ParseWitness(w.VKey() + " " + url)
	if err != nil {
		f.t.Fatal(err)
	}
	return parsed
}

// change changes the witness with a name under the lock.
func (f *fakeWitnesses) change(name string, change func(*fakeWitness)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.list["http://"+name])
}

// asked returns the submissions that a witness received.
func (f *fakeWitnesses) asked(name string) (list []asked) {
	f.change(name, func(w *fakeWitness) { list = append(list, w.asked...) })
	return list
}

// AddCheckpoint implements Witnesses.
func (f *fakeWitnesses) AddCheckpoint(ctx context.Context, url string, old uint64, proof []chain.Hash,
	checkpoint []byte) ([]byte, error) {
	size, err := strconv.ParseUint(strings.Split(string(checkpoint), "\n")[1], 10, 64)
	if err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	w := f.list[url]
	if w.underWay {
		f.t.Errorf("%s: two submissions are under way", url)
	}
	w.underWay = true
	w.asked = append(w.asked, asked{time.Now(), old, size})
	before, after := w.before, w.after
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		w.underWay = false
		f.mu.Unlock()
	}()
	if before != nil {
		if err := before(ctx); err != nil {
			return nil, err
		}
	}
	body := fmt.Sprintf("old %d\n", old)
	for _, h := range proof {
		body += base64.StdEncoding.EncodeToString(h[:]) + "\n"
	}
	r := httptest.NewRecorder()
	w.ServeHTTP(r,
		httptest.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader(body+"\n"+string(checkpoint))))
	switch r.Code {
	case http.StatusOK:
	case http.StatusConflict:
		size, err := strconv.ParseUint(strings.TrimSpace(r.Body.String()), 10, 64)
		if err != nil {
			f.t.Error(err)
		}
		return nil, &wire.WitnessConflict{Size: size}
	default:
		return nil, &wire.WitnessRefusal{Status: r.Code, Reason: strings.TrimSpace(r.Body.String())}
	}
	if after != nil {
		return after(r.Body.Bytes())
	}
	return r.Body.Bytes(), nil
}

// newWitnessedRig returns a rig with a quorum and with witnesses that know its log.
func newWitnessedRig(t *testing.T, quorum uint8, names ...string) (*rig, *fakeWitnesses) {
	t.Helper()
	f := &fakeWitnesses{t: t, list: map[string]*fakeWitness{}}
	r := newRig(t, 2, func(cfg *Config, _ *rig) {
		cfg.WitnessCalls, cfg.Settings.WitnessQuorum = f, quorum
		for _, name := range names {
			cfg.Witnesses = append(cfg.Witnesses, f.add(name))
		}
	})
	f.know(r)
	return r, f
}

// know gives the keys of the log to all witnesses.
func (f *fakeWitnesses) know(r *rig) {
	l := table(r, (*masterfsm.State).Log)
	var keys []string
	for _, k := range l.Signing() {
		keys = append(keys, l.VerifierKey(&k))
	}
	for _, w := range f.list {
		w.Know(l.Origin, keys...)
	}
}

// origin returns the origin of the log.
func (r *rig) origin() string { return table(r, (*masterfsm.State).Log).Origin }

// statusOf returns the status of a witness according to the leader.
func (r *rig) statusOf(t *testing.T, name string) wire.Witness {
	t.Helper()
	l, err := r.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range l.Witnesses {
		if w.Name == name {
			return w
		}
	}
	t.Fatalf("no witness %s in %+v", name, l.Witnesses)
	return wire.Witness{}
}
