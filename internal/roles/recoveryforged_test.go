package roles

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// proven starts a storage node that proves its answers.
func proven(t *testing.T, n *chainNode) string {
	t.Helper()
	e := httpapi.New(hclog.NewNullLogger())
	e.Authenticate(&httpapi.Nodes{Accept: map[string]nodeauth.Accepted{
		nodeauth.Recovery: {Secret: nodeauth.Shared("token").Recovery},
	}})
	for _, path := range []string{wire.PathChain, wire.PathChainBlocks} {
		e.GET(path, func(c *gin.Context) { n.ServeHTTP(c.Writer, c.Request) })
	}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return server.URL
}

// framed returns blocks of a chain as a storage node sends them.
func framed(blocks []chain.Block) (data []byte) {
	for _, b := range blocks {
		data = append(binary.BigEndian.AppendUint32(data, uint32(len(b.Bytes()))), b.Bytes()...)
	}
	return data
}

// inPath starts a proxy to a storage node that replaces the blocks in its answers by those of another chain.
func inPath(t *testing.T, to string, forged []chain.Block) string {
	t.Helper()
	base, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(base)
	proxy.ModifyResponse = func(resp *http.Response) error {
		if resp.Request.URL.Path != wire.PathChainBlocks || forged == nil || resp.StatusCode != http.StatusOK {
			return nil
		}
		from, _ := strconv.Atoi(resp.Request.URL.Query().Get("from"))
		to, _ := strconv.Atoi(resp.Request.URL.Query().Get("to"))
		_, _ = io.Copy(io.Discard, resp.Body)
		data := framed(forged[from:to])
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
		resp.Header.Set("Content-Length", strconv.Itoa(len(data)))
		if len(resp.Trailer) > 0 { // the MAC is in the trailer
			resp.ContentLength = -1
			resp.Header.Del("Content-Length")
		}
		return nil
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}

// TestRecoverForgedBlocks recovers through a proxy that replaces the blocks of a storage node by a chain that is valid
// and as long. No forged block may be adopted.
func TestRecoverForgedBlocks(t *testing.T) {
	for name, record := range map[string]string{
		"small answers": "record", "long answers": strings.Repeat("long", 9000),
	} {
		l := newSurvivor(t)
		genuine, other := l.fork(), l.fork()
		genuine.grow(4, record)
		other.grow(4, "x"+record[1:])
		for _, forged := range [][]chain.Block{nil, other.blocks()} {
			node := newChainNode(t, "d1")
			node.has(genuine.blocks())
			proxy := inPath(t, proven(t, node), forged)
			survivor := newSurvivor(t)
			r, err := recoverFrom(t, survivor, proxy)
			if forged == nil {
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				r.isAt(t, genuine.blocks())
				continue
			}
			if err == nil || survivor.state.Head().Height != 0 {
				t.Errorf("%s: %d forged blocks are adopted: %v", name, survivor.state.Head().Height, err)
			}
		}
	}
}

// TestRecoverOtherBlocksThanReported recovers from an older node, whose answers have no proof. Its blocks must end with
// the hash that it reported.
func TestRecoverOtherBlocksThanReported(t *testing.T) {
	l := newSurvivor(t)
	genuine, other := l.fork(), l.fork()
	genuine.grow(4, "record")
	other.grow(4, "forged")
	node := newChainNode(t, "d1")
	node.has(genuine.blocks())
	node.blocks = other.blocks()
	if _, err := recoverFrom(t, l, node.url); err == nil || !strings.Contains(err.Error(), "another hash") {
		t.Errorf("a chain is adopted that the node did not report: %v", err)
	}
}
