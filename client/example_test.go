package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/fakecluster"
	"github.com/chainstore/chainstore/wire"
)

// master starts a cluster in memory with one master and one project.
func master() (cluster *fakecluster.Cluster, url string) {
	cluster = fakecluster.New()
	cluster.AddToken(cluster.Projects[0], "", nil, "project-token")
	return cluster, cluster.Serve(func(h http.Handler) http.Handler { return h })
}

func Example() {
	m, url := master()
	defer m.Close()
	c, err := client.New(client.Config{
		Masters: []string{"http://127.0.0.1:1", url}, // the first one is down: the client tries the next
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
	m, url := master()
	defer m.Close()
	c, err := client.New(client.Config{Masters: []string{url}, Token: "project-token"})
	if err != nil {
		fmt.Println(err)
		return
	}
	// With the key, a second call with the same batch, for example after a crash, returns the same positions.
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
	m, url := master()
	defer m.Close()
	c, err := client.New(client.Config{Masters: []string{url}, Token: "project-token"})
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

func ExampleAppendStream() {
	m, url := master()
	defer m.Close()
	c, err := client.New(client.Config{Masters: []string{url}, Token: "project-token"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	// The second run stands for that of a program which was interrupted: it appends only what is missing.
	for _, lines := range []string{"first\nsecond\n", "first\nsecond\nthird\n"} {
		s, err := c.NewAppendStream(ctx, client.AppendStreamConfig{ID: "doors"})
		if err != nil {
			fmt.Println(err)
			return
		}
		var futures []client.Future
		for line := range strings.Lines(lines) {
			f, err := s.Add(ctx, client.Entry{Payload: []byte(line)})
			if err != nil {
				fmt.Println(err)
				break
			}
			futures = append(futures, f)
		}
		if err := s.Close(); err != nil {
			fmt.Println(err)
		}
		for _, f := range futures {
			at, err := f.Wait(ctx)
			fmt.Println(at.Block, at.Offset, err)
		}
	}
	state, err := c.AppendStreamState(ctx, "doors")
	fmt.Println(state.Next, err)
	// Output:
	// 0 0 <nil>
	// 0 1 <nil>
	// 0 0 <nil>
	// 0 1 <nil>
	// 0 2 <nil>
	// 4 <nil>
}

func ExampleClient_List() {
	m, url := master()
	defer m.Close()
	c, err := client.New(client.Config{Masters: []string{url}, Token: "project-token"})
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
	m, url := master()
	defer m.Close()
	c, err := client.New(client.Config{Masters: []string{"http://127.0.0.1:1", url}, Token: "project-token"})
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
	// The stream continues through failures of masters. The loop decides when to stop.
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
	m, url := master()
	defer m.Close()
	c, err := client.New(client.Config{Masters: []string{url}, Token: "project-token"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	at, err := c.AppendWait(ctx, client.Entry{Payload: []byte("hello")}, time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	// The client has verified the proof. It can be stored, and verified again without a cluster.
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
