package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/storagenode/segment"
)

const (
	// checkpointEvery is the pause between two requests to a master for its checkpoint. checkpointOften is the pause in
	// tests of checkpoints.
	checkpointEvery = slower * 500 * time.Millisecond
	checkpointOften = slower * 50 * time.Millisecond
	maxCheckpoint   = 64 << 10
)

// checkpoints holds all checkpoints that the masters served while the test polled them. It uses only public libraries
// to read them.
type checkpoints struct {
	origin string
	keys   []string // verifier keys: current and former signers

	mu        sync.Mutex // guards the fields below
	verifiers []note.Verifier
	roots     map[uint64]chain.Hash
	most      uint64 // largest size received so far
	polls     int
}

// TestCheckpointsAreOneHistory cuts the leader off from the other masters and reconnects it, transfers the leadership
// twice, and kills and restarts all masters at once. It checks that all checkpoints that any master served meanwhile
// belong to one history, and that no checkpoint goes back.
func TestCheckpointsAreOneHistory(t *testing.T) {
	c, topology := prepared(t, func(*devcluster.Topology) {})
	c.expectDamage = true // a node that lags is invalid for a while
	c.pollCheckpoints = true
	c.net = newNetwork(t, &topology)
	c.begin(topology)
	o := newOracle()
	l := c.startLoad(o)
	grow := func() {
		t.Helper()
		l.more(some / 2)
		from := c.checkpoints.largest()
		c.await("a newer checkpoint", func() string {
			if c.checkpoints.largest() == from {
				return fmt.Sprintf("the largest has %d leaves still", from)
			}
			return ""
		})
	}
	grow()
	first := c.leader("")
	heal := c.net.isolate(first, c.followers(first))
	second := c.leader(first)
	grow()
	heal()
	c.awaitComplete(3)
	for range 2 {
		leader := c.leader("")
		if _, err := c.admin().TransferLeadership(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		c.leader(leader)
		grow()
	}
	masters := c.names(devcluster.KindMaster)
	c.kill(masters...)
	c.launch(masters...)
	c.awaitComplete(3)
	grow()
	t.Logf("%s and then %s led, before leadership was handed over twice and all masters were killed", first, second)
	l.end()
	c.verify(o)
}

// TestCheckpointsThatContradict checks that the checkpoint checker detects a checkpoint that goes back, two roots of
// one size, and a signature of another key.
func TestCheckpointsThatContradict(t *testing.T) {
	secret, vkey, err := note.GenerateKey(rand.Reader, "log.example")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(size uint64, root string) []byte {
		hash := sha256.Sum256([]byte(root))
		signed, err := note.Sign(
			&note.Note{Text: string(log.Checkpoint{Origin: "log.example", Size: size, Hash: hash[:]}.Marshal())},
			signer)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	k := &checkpoints{origin: "log.example", verifiers: []note.Verifier{verifierOf(t, vkey)},
		roots: map[uint64]chain.Hash{}}
	for _, row := range []struct {
		signed []byte
		least  uint64
		good   bool
	}{
		{sign(5, "a"), 0, true},
		{sign(5, "a"), 5, true},
		{sign(4, "b"), 5, false},
		{sign(4, "b"), 4, true},
		{sign(5, "c"), 0, false},
		{bytes.Replace(sign(6, "d"), []byte("6"), []byte("7"), 1), 0, false},
		{[]byte("log.example\n8\n"), 0, false},
	} {
		if err := k.take(row.signed, row.least); (err == nil) != row.good {
			t.Errorf("after %d leaves: %v\n%s", row.least, err, row.signed)
		}
	}
}

// knownLog returns a checker with the log's name and one of its keys, as a master reports them.
func (c *cluster) knownLog() *checkpoints {
	c.t.Helper()
	var said struct {
		Origin string `json:"origin"`
		Keys   []struct {
			VKey string `json:"vkey"`
		} `json:"keys"`
	}
	c.await("the log's key", func() string {
		for _, url := range c.File().Masters {
			body, err := c.fetch(c.t.Context(), url+"/v1/log")
			if err == nil {
				err = json.Unmarshal(body, &said)
			}
			if err == nil && len(said.Keys) > 0 {
				return ""
			}
			if err != nil {
				return err.Error()
			}
		}
		return "no master shows a key"
	})
	k := &checkpoints{origin: said.Origin, roots: map[uint64]chain.Hash{}}
	for _, key := range said.Keys {
		k.keys = append(k.keys, key.VKey)
		k.trust(verifierOf(c.t, key.VKey))
	}
	return k
}

// trust adds a verifier to the log's keys.
func (k *checkpoints) trust(v note.Verifier) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.verifiers = append(k.verifiers, v)
}

// read parses a checkpoint that one of the log's keys has signed. The caller holds mu.
func (k *checkpoints) read(signed []byte) (found *log.Checkpoint, err error) {
	for _, v := range k.verifiers {
		if found, _, _, err = log.ParseCheckpoint(signed, k.origin, v); err == nil {
			break
		}
	}
	return found, err
}

// fetch sends a GET request without a token over the tests' network.
func (c *cluster) fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := cmp.Or(c.Topology().HTTP, http.DefaultClient).Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // read only
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxCheckpoint))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, answer.Status, body)
	}
	return body, err
}

// watchCheckpoints polls a master for its checkpoint until ending is closed. A master without a checkpoint is not a
// fault.
func (c *cluster) watchCheckpoints(o *oracle, url string, ending <-chan struct{}) {
	every := checkpointEvery
	if c.pollCheckpoints {
		every = checkpointOften
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for c.askCheckpoint(o, url) {
		select {
		case <-ending:
			return
		case <-tick.C:
		}
	}
}

// askCheckpoint requests the checkpoint of a master, and reports whether to continue.
func (c *cluster) askCheckpoint(o *oracle, url string) bool {
	least := c.checkpoints.largest()
	ctx, cancel := context.WithTimeout(c.t.Context(), statusTimeout)
	defer cancel()
	signed, err := c.fetch(ctx, url+"/checkpoint")
	if err != nil {
		return true // it has no checkpoint yet
	}
	if err := c.checkpoints.take(signed, least); err != nil {
		o.fault("checkpoint of %s: %v\n%s", url, err, signed)
		return false
	}
	return true
}

func (k *checkpoints) largest() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.most
}

// take compares a checkpoint with all earlier ones. Before the request, the caller had already seen a checkpoint of
// size least.
func (k *checkpoints) take(signed []byte, least uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	found, err := k.read(signed)
	if err != nil {
		return err
	}
	root := chain.Hash(found.Hash)
	k.polls++
	if found.Size < least {
		return fmt.Errorf("it has %d leaves, and one of %d was given out before it was asked for", found.Size, least)
	}
	if other, ok := k.roots[found.Size]; ok && other != root {
		return fmt.Errorf("two roots were signed for %d leaves: %v and %v", found.Size, root, other)
	}
	k.roots[found.Size], k.most = root, max(k.most, found.Size)
	return nil
}

// checkCheckpoints compares every served checkpoint with the chain in a storage node's folder. Each must match the
// chain at its size, so that all of them belong to one history.
func (c *cluster) checkCheckpoints(o *oracle, folder string) {
	c.t.Helper()
	k := c.checkpoints
	if k == nil {
		return
	}
	firsts, err := segment.List(filepath.Join(folder, "segments"))
	if err != nil {
		c.t.Fatal(err)
	}
	var empty chain.Tree
	seen := map[uint64]chain.Hash{0: empty.Root()}
	v := chain.NewVerifier(chain.Head{})
	for _, first := range firsts {
		err := eachBlock(filepath.Join(folder, "segments", segment.Name(first)), func(b *chain.Block) error {
			_, err := v.Take(b)
			tree := v.Head().Tree
			if _, given := k.roots[tree.Size()]; given {
				seen[tree.Size()] = tree.Root()
			}
			return err
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
	for size, root := range k.roots {
		if seen[size] != root {
			o.fault("a checkpoint of %d leaves has the root %v, the chain has %v there", size, root, seen[size])
		}
	}
	if k.polls == 0 {
		o.fault("no master gave out a checkpoint")
	}
	c.t.Logf("%d checkpoints given out, of %d sizes up to %d", k.polls, len(k.roots), k.most)
}
