package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/httpapi/wire"
)

// master stands in for a cluster: it puts every record into block 0, and forgets everything at its end.
func master() *httptest.Server {
	var records []wire.Record
	add := func(key, typ string, payload []byte) wire.Position {
		r := chain.Record{Project: 1, Time: 1_700_000_000_000, Key: key, Type: typ, Payload: payload}
		leaf := r.Leaf()
		at := wire.Position{
			Offset: uint32(len(records)), Index: uint64(len(records)), Time: r.Time, Leaf: leaf.Hash(), State: wire.StateCommitted,
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
			Type: wire.ProblemBase + wire.ProblemNotFound, Title: "no such record", Detail: "block 0 has " + fmt.Sprint(len(records)) + " records",
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
	fmt.Println(errors.Is(err, client.ErrNotFound))
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
