package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
)

const (
	checkpointEvery = slower * 100 * time.Millisecond
	maxCheckpoint   = 64 << 10
)

// checkpoints are all those that the masters gave out while they were polled, read with nothing but the public libraries.
type checkpoints struct {
	origin   string
	verifier note.Verifier

	mu    sync.Mutex // guards all below
	roots map[uint64]chain.Hash
	most  uint64 // largest size of an answer that has come
	polls int
}

// knownLog is the log's name and one of its keys, as a master tells them.
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
		return "no master tells a key"
	})
	verifier, err := note.NewVerifier(said.Keys[0].VKey)
	if err != nil {
		c.t.Fatal(err)
	}
	return &checkpoints{origin: said.Origin, verifier: verifier, roots: map[uint64]chain.Hash{}}
}

// fetch gets what needs no token, along the way that all clients of the tests go.
func (c *cluster) fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := cmp.Or(c.Topology().HTTP, http.DefaultClient).Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // only read
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxCheckpoint))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, answer.Status, body)
	}
	return body, err
}

// watchCheckpoints polls a master for its checkpoint until ending is closed. That a master has none to give is no fault.
func (c *cluster) watchCheckpoints(o *oracle, url string, ending <-chan struct{}) {
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-ending:
			return
		case <-tick.C:
		}
		least := c.checkpoints.largest()
		ctx, cancel := context.WithTimeout(c.t.Context(), askFor)
		signed, err := c.fetch(ctx, url+"/checkpoint")
		cancel()
		if err != nil {
			continue
		}
		if err := c.checkpoints.take(signed, least); err != nil {
			o.fault("checkpoint of %s: %v\n%s", url, err, signed)
			return
		}
	}
}

func (k *checkpoints) largest() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.most
}

// take holds a checkpoint against all that came before. Whoever asked had seen one of size least already.
func (k *checkpoints) take(signed []byte, least uint64) error {
	found, _, _, err := log.ParseCheckpoint(signed, k.origin, k.verifier)
	if err != nil {
		return err
	}
	root := chain.Hash(found.Hash)
	k.mu.Lock()
	defer k.mu.Unlock()
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

// checkCheckpoints holds every checkpoint that was given out against the chain in a storage node's folder: each is where that chain stood once, so
// all of them are one history.
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
