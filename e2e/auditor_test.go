package e2e

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	tessera "github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"

	"github.com/chainstore/chainstore/storagenode/segment"
)

const (
	// auditors is the number of concurrent requests of the public auditor. A single one blocks at the first entry that
	// does not fit.
	auditors = 4
	auditFor = slower * 30 * time.Second
)

// audit runs the public auditor, a third-party program, on the whole log that an address serves: every entry, every
// tile, the root, and the signature.
func (c *cluster) audit(at string) error {
	c.t.Helper()
	if c.checkpoints == nil {
		c.checkpoints = c.knownLog()
	}
	base, err := url.Parse(at)
	if err != nil {
		return err
	}
	fetcher, err := tessera.NewHTTPFetcher(base, cmp.Or(c.Topology().HTTP, http.DefaultClient))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), auditFor)
	defer cancel()
	return fsck.New(c.checkpoints.origin, verifierOf(c.t, c.checkpoints.keys[0]), fetcher, leavesOf,
		fsck.Opts{N: auditors}).Check(ctx)
}

// leavesOf hashes the entries of a bundle.
func leavesOf(bundle []byte) (leaves [][]byte, err error) {
	var b api.EntryBundle
	if err := b.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	for _, entry := range b.Entries {
		leaves = append(leaves, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return leaves, nil
}

// TestPublicAuditor checks that a third-party auditor accepts the log from every master while the log grows, after its
// leader was killed, and after a storage node was repaired. The auditor must reject the log when a proxy alters one
// byte.
func TestPublicAuditor(t *testing.T) {
	c, o := startSmallSegments(t), newOracle()
	c.expectDamage = true
	auditAll := func(when string) {
		t.Helper()
		for _, url := range c.File().Masters {
			if err := c.audit(url); err != nil {
				t.Errorf("%s, through %s: %v", when, url, err)
			}
		}
	}
	l := c.startLoad(o)
	l.more(6 * some)
	c.awaitSegments(4)
	auditAll("while it grows")

	leader := c.leader("")
	c.kill(leader)
	l.more(some)
	c.launch(leader)
	c.awaitComplete(3)
	auditAll("after a failover")

	before := c.integrity()
	d := (&damaged{cluster: c, name: "storage-2"}).disk()
	d.at(filepath.Join("segments", segment.Name(d.segments()[1])))
	d.flip(d.block + 200)
	url := roleOf(c.Topology(), "storage-2").URL()
	was := nodeAt(before, url)
	if _, err := c.admin().CheckStorage(t.Context(), was.ID); err != nil {
		t.Fatal(err)
	}
	now := (&damaged{cluster: c, name: "storage-2"}).awaitHealed(before, url, was)
	if !told(before, now, url, "repair") {
		t.Errorf("nothing was repaired: %+v", now.Events)
	}
	auditAll("after a repair")
	l.end()
	c.awaitStored()
	auditAll("at the end")

	for _, path := range []string{"/tile/0/000", "/tile/1/000", "/tile/entries/000", "/tile/entries/001",
		"/checkpoint"} {
		p := newForger(t, c.File().Masters[0], path)
		if err := c.audit(p.URL); err == nil {
			t.Errorf("a byte of %s was altered on the way, and the auditor finds nothing", path)
		} else {
			t.Logf("%s altered: %v", path, err)
		}
		if !p.forged.Load() {
			t.Errorf("no request for %s", path)
		}
	}
	c.verify(o)
}

// forger is a proxy in front of a master. It alters one byte of the response for a path, or for a partial tile below
// it.
type forger struct {
	*httptest.Server
	forged atomic.Bool
}

func newForger(t *testing.T, master, path string) *forger {
	t.Helper()
	target, err := url.Parse(master)
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		asked := r.Request.URL.Path
		if asked != path && !strings.HasPrefix(asked, path+".p/") || r.StatusCode != http.StatusOK {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		if len(body) == 0 {
			return fmt.Errorf("%s is empty", asked)
		}
		body[len(body)/2] ^= 1
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		f.forged.Store(true)
		return nil
	}
	f.Server = httptest.NewServer(proxy)
	t.Cleanup(f.Close)
	return f
}

// auditBesideLost audits the log without a token. The audit must check the headers of the blocks beside a lost one, say
// that it could not check everything, and find a header that was altered.
func (c *cluster) auditBesideLost(lost uint64) {
	c.t.Helper()
	key := c.knownLog().keys[0]
	for _, url := range c.File().Masters {
		status, said := c.refusedBy("verify", "--url", url, "--key", key)
		if said = strings.Join(strings.Fields(said), " "); status != 2 || // it is wrapped
			!strings.Contains(said, "were checked only in part") ||
			!strings.Contains(said, "everything else is good") {
			c.t.Errorf("an audit beside block %d through %s: exit status %d, %s", lost, url, status, said)
		}
	}
	p := newForger(c.t, c.File().Masters[0], fmt.Sprintf("/v1/blocks/%d", lost))
	if status, said := c.refusedBy("verify", "--url", p.URL, "--key", key); status != 1 || !p.forged.Load() {
		c.t.Errorf("an altered header of block %d: exit status %d, %s", lost, status, said)
	}
}
