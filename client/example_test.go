package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/wire"
)

// master stands in for a cluster: it puts every record into block 0, and forgets everything at its end.
func master() *httptest.Server {
	var records []wire.Record
	add := func(key, typ string, payload []byte) wire.Position {
		r := chain.Record{Project: 1, Time: 1_700_000_000_000, Key: key, Type: typ, Payload: payload}
		leaf := r.Leaf()
		at := wire.Position{
			Offset: uint32(len(records)), Index: uint64(len(records)), Time: r.Time, Leaf: leaf.Hash(),
			State: wire.StateCommitted,
		}
		records = append(records, wire.Record{
			Position: at, Project: "default", ProjectID: r.Project, Key: key, Type: typ, Size: leaf.Size,
			Salt: r.Salt[:], Commit: leaf.Commit, Payload: payload,
		})
		return at
	}
	reply := func(w http.ResponseWriter, status int, v any) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/records", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		reply(w, http.StatusCreated, add(r.Header.Get(wire.HeaderKey), r.Header.Get("Content-Type"), body))
	})
	mux.HandleFunc("POST /v1/records:batch", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var positions wire.Positions
		wire.ParseFrames(body, func(key, typ, payload []byte) error {
			positions.Records = append(positions.Records, add(string(key), string(typ), payload))
			return nil
		})
		reply(w, http.StatusCreated, positions)
	})
	mux.HandleFunc("GET /v1/blocks/0/records/{offset}", func(w http.ResponseWriter, r *http.Request) {
		for _, record := range records {
			if fmt.Sprint(record.Offset) == r.PathValue("offset") {
				reply(w, http.StatusOK, record)
				return
			}
		}
		w.Header().Set("Content-Type", wire.TypeProblem)
		reply(w, http.StatusNotFound, wire.Problem{
			Type: wire.ProblemBase + wire.ErrNotFound.Name, Title: "no such record", Detail: "block 0 has " +
				fmt.Sprint(len(records)) + " records",
		})
	})
	list := func(r *http.Request, from uint64) (found []wire.Record) {
		for _, record := range records {
			if key := r.URL.Query().Get("key"); record.Index >= from && (key == "" || record.Key == key) {
				found = append(found, record)
			}
		}
		return found
	}
	mux.HandleFunc("GET /v1/records", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, wire.Records{Records: list(r, 0)})
	})
	mux.HandleFunc("GET /v1/records/stream", func(w http.ResponseWriter, r *http.Request) {
		from := uint64(0)
		if last, err := strconv.ParseUint(r.Header.Get(wire.HeaderLastEventID), 10, 64); err == nil {
			from = last + 1
		}
		fmt.Fprint(w, ": alive\n\n")
		for _, record := range list(r, from) {
			data, _ := json.Marshal(record)
			fmt.Fprintf(w, "id: %d\nevent: record\ndata: %s\n\n", record.Index, data)
		}
	})
	mux.HandleFunc("GET /v1/records/0/proof", func(w http.ResponseWriter, r *http.Request) {
		record := records[0]
		header := chain.Header{Version: chain.Version, Count: 1, Root: record.Leaf, Time: record.Time, Difficulty: 4}
		header.Nonce, _ = chain.Solve(header.Inner(), header.Difficulty, 0, 1<<16)
		leaf := chain.Leaf{Project: record.ProjectID, Time: record.Time, Size: record.Size, Commit: record.Commit}
		reply(w, http.StatusOK, wire.Proof{
			Leaf: record.Leaf, LeafData: leaf.AppendTo(nil), Header: wire.NewBlock(header), SealIndex: 1,
			SealPath: []chain.Hash{record.Leaf}, Size: 2, Root: chain.NodeHash(record.Leaf, header.SealHash()),
		})
	})
	return httptest.NewServer(mux)
}

func Example() {
	m := master()
	defer m.Close()
	c, err := client.New(client.Config{
		Masters: []string{"http://127.0.0.1:1", m.URL}, // the first one is dead: the client goes on with the next
		Token:   "project-token",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	at, err := c.Append(ctx, client.Entry{Payload: []byte("hello"), Type: "text/plain", Key: "greeting"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("block %d, offset %d, %s\n", at.Block, at.Offset, at.State)

	record, err := c.Get(ctx, at.Block, at.Offset)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %s\n", record.Key, record.Payload)

	_, err = c.Get(ctx, 0, 17)
	fmt.Println(errors.Is(err, wire.ErrNotFound))
	// Output:
	// block 0, offset 0, committed
	// greeting: hello
	// true
}

func ExampleClient_AppendBatch() {
	m := master()
	defer m.Close()
	c, err := client.New(client.Config{Masters: []string{m.URL}, Token: "project-token"})
	if err != nil {
		fmt.Println(err)
		return
	}
	// The key makes a second call with the same batch, after a crash for example, give the same positions.
	positions, err := c.AppendBatch(context.Background(), []client.Entry{
		{Payload: []byte("one")}, {Payload: []byte("two")},
	}, "import-2026-01-02")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, at := range positions {
		fmt.Println(at.Block, at.Offset)
	}
	// Output:
	// 0 0
	// 0 1
}

func ExampleBatcher() {
	m := master()
	defer m.Close()
	c, err := client.New(client.Config{Masters: []string{m.URL}, Token: "project-token"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	b := c.NewBatcher(ctx, client.BatcherConfig{})
	var futures []client.Future
	for line := range strings.Lines("first\nsecond\nthird\n") {
		f, err := b.Add(ctx, client.Entry{Payload: []byte(line)})
		if err != nil {
			fmt.Println(err)
			break
		}
		futures = append(futures, f)
	}
	if err := b.Close(); err != nil {
		fmt.Println(err)
	}
	for _, f := range futures {
		at, err := f.Wait(ctx)
		fmt.Println(at.Block, at.Offset, err)
	}
	// Output:
	// 0 0 <nil>
	// 0 1 <nil>
	// 0 2 <nil>
}

func ExampleClient_List() {
	m := master()
	defer m.Close()
	c, err := client.New(client.Config{Masters: []string{m.URL}, Token: "project-token"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	for _, e := range []client.Entry{
		{Key: "crate/17", Payload: []byte("packed")}, {Key: "crate/18", Payload: []byte("packed")},
		{Key: "crate/17", Payload: []byte("shipped")},
	} {
		if _, err := c.Append(ctx, e); err != nil {
			fmt.Println(err)
			return
		}
	}
	// The history of a key.
	for record, err := range c.List(ctx, client.ListQuery{Key: "crate/17"}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%d: %s\n", record.Index, record.Payload)
	}
	// Output:
	// 0: packed
	// 2: shipped
}

func ExampleClient_Stream() {
	m := master()
	defer m.Close()
	c, err := client.New(client.Config{Masters: []string{"http://127.0.0.1:1", m.URL}, Token: "project-token"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	for _, text := range []string{"one", "two", "three"} {
		if _, err := c.Append(ctx, client.Entry{Payload: []byte(text)}); err != nil {
			fmt.Println(err)
			return
		}
	}
	// It goes on for ever, whichever master dies: whoever loops over it says when it is enough.
	for record, err := range c.Stream(ctx, client.StreamQuery{From: 1}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%d: %s\n", record.Index, record.Payload)
		if string(record.Payload) == "three" {
			break
		}
	}
	// Output:
	// 1: two
	// 2: three
}

func ExampleClient_Proof() {
	m := master()
	defer m.Close()
	c, err := client.New(client.Config{Masters: []string{m.URL}, Token: "project-token"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	at, err := c.Append(ctx, client.Entry{Payload: []byte("hello")})
	if err != nil {
		fmt.Println(err)
		return
	}
	// The proof was checked before it is returned; it can be kept, and checked again without any cluster.
	proof, err := c.Proof(ctx, at.Index)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(proof.Leaf == at.Leaf, client.CheckProof(&proof))
	proof.Root[0] ^= 1
	fmt.Println(client.CheckProof(&proof) == nil)
	// Output:
	// true <nil>
	// false
}
