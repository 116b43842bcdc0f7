package workerapi_test

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/workerapi"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// TestTilesAndEntriesOfAStorageNode compares the tiles and entries that a master reads from a storage node with those
// of the node.
func TestTilesAndEntriesOfAStorageNode(t *testing.T) {
	dir := t.TempDir()
	node, err := storagenode.Open(storagenode.Config{Dir: dir, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	}()
	data := firstBlock(t)
	if _, err := node.Put(t.Context(), 0, data); err != nil {
		t.Fatal(err)
	}
	block, err := chain.ParseBlock(data)
	if err != nil {
		t.Fatal(err)
	}
	record, err := block.Record(0)
	if err != nil {
		t.Fatal(err)
	}
	fence, err := worker.OpenFence(dir)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(workerapi.NewStorage(workerapi.StorageConfig{
		Node: node, Fence: fence, ID: func() string { return "s-1" }, Group: func() string { return "g" },
		Ready:       func() error { return nil },
		MasterToken: "master", Secrets: nodeauth.Shared("cluster"),
		Fail: func(err error) { t.Error(err) }, Logger: hclog.NewNullLogger(),
	}))
	defer server.Close()
	workers := noderpc.NewWorkers(noderpc.NewTransport(), nodeauth.Shared("cluster"))
	defer workers.CloseIdle()
	to := wire.Worker{URL: server.URL, Token: "master"}

	if answers, err := workers.ReadRecords(t.Context(), to, []wire.Place{{}}, 1); err != nil || len(answers) != 1 ||
		!bytes.Equal(answers[0].Record, block.Encoded(0)) || len(answers[0].Path) != 0 {
		t.Errorf("a record of a known leaf: %+v, %v", answers, err)
	}
	var refused *wire.Error
	if _, err := workers.ReadRecords(t.Context(), to, []wire.Place{{}}, 2); !errors.As(err, &refused) ||
		refused.Problem.Status != 400 {
		t.Errorf("two of one place are known: %v", err)
	}
	tiles := []tlog.Tile{{H: 8, W: 2}, {H: 8, W: 1}}
	leaf, seal := record.Leaf().Hash(), block.Header.SealHash()
	answer, err := workers.ReadTiles(t.Context(), to, tiles)
	if err != nil || answer.Status != wire.ReadFound || !bytes.Equal(answer.Tiles[0], append(leaf[:], seal[:]...)) ||
		!bytes.Equal(answer.Tiles[1], leaf[:]) {
		t.Errorf("%+v, %v", answer, err)
	}
	if answer, err := workers.ReadTiles(t.Context(), to, []tlog.Tile{{H: 8, W: 3}}); err != nil ||
		answer.Status != wire.ReadBehind {
		t.Errorf("behind: %+v, %v", answer, err)
	}
	want := wire.AppendEntry(wire.AppendEntry(nil, record.Leaf().AppendTo(nil)), block.Header.AppendTo(nil))
	entries, err := workers.Entries(t.Context(), to, 0, 2)
	if err != nil || entries.Status != wire.ReadFound || !bytes.Equal(entries.Bundle, want) {
		t.Errorf("%+v, %v", entries, err)
	}
	if entries, err := workers.Entries(t.Context(), to, 1, 2); err != nil || entries.Status != wire.ReadBehind {
		t.Errorf("behind: %+v, %v", entries, err)
	}
	for _, count := range []int{0, -1, wire.TileWidth + 1} {
		var refused *wire.Error
		if _, err := workers.Entries(t.Context(), to, 0, count); !errors.As(err, &refused) ||
			refused.Problem.Status != 400 {
			t.Errorf("%d entries: %v", count, err)
		}
	}
}
