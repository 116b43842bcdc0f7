package inspect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// profileRetry is the time between two requests to a node that is taking another profile, profileSpare how long a node
// is asked in addition to the time that all profiles of all nodes take.
const (
	profileRetry = time.Second
	profileSpare = 30 * time.Second
)

// NewProfile collects profiles of all nodes.
func NewProfile() *cobra.Command {
	p := profiler{}
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "profile [ID|URL]...",
		Short: "Collect profiles of the nodes' processes in a folder",
		Long: `Collect profiles of the processes of masters, storage nodes and miners, and write them to a folder, one
file for each profile. Name nodes by their ids or URLs. Without a name all nodes are profiled, at the same time.
'go tool pprof FILE' shows a profile. The command needs the admin token.

The kinds are cpu, heap, goroutine, mutex and block. Profiles of cpu, mutex and block observe the process for --seconds
and cost it a few percent of its speed meanwhile. A process takes one profile at a time; the command waits for its turn.
Profiles contain names of functions and numbers, and no records and no tokens.

A node is reached through a master, so only the masters need to be reachable. The exit status is 1 if a profile could
not be taken.`,
		Example: `  chainstore profile
  chainstore profile --kinds cpu,mutex --seconds 20 --out before http://127.0.0.1:8000`,
		Args: cobra.ArbitraryArgs,
	}, cli.Use{Role: cli.AsAdmin, RetryFor: -1, JSON: "print one JSON object a line for each profile"}, p.run)
	flags := cmd.Flags()
	flags.StringVar(&p.folder, "out", "", "`folder` to create for the profiles (default profiles-TIME)")
	flags.StringSliceVar(&p.kinds, "kinds", []string{wire.ProfileCPU, wire.ProfileHeap, wire.ProfileGoroutine},
		"`kinds` of profiles: "+strings.Join(wire.ProfileKinds(), ", "))
	flags.IntVar(&p.seconds, "seconds", 10, fmt.Sprintf("how long cpu, mutex and block are observed, 1 to %d",
		wire.MaxProfileSeconds))
	cli.MustComplete(cmd.MarkFlagDirname("out"))
	cli.MustComplete(cmd.RegisterFlagCompletionFunc("kinds",
		cobra.FixedCompletions(wire.ProfileKinds(), cobra.ShellCompDirectiveNoFileComp)))
	cli.NoFiles(cmd, "seconds")
	return cmd
}

// profiler is a run of the command.
type profiler struct {
	folder  string
	kinds   []string
	seconds int
}

// profiledNode is a node that is profiled.
type profiledNode struct{ role, id, url string }

// profileResult is a profile that was taken, or was not.
type profileResult struct {
	Role  string `json:"role"` // "master", "storage" or "miner"
	ID    string `json:"id"`
	URL   string `json:"url"`
	Kind  string `json:"kind"`
	File  string `json:"file,omitempty"`
	Bytes int    `json:"bytes,omitempty"`
	Error string `json:"error,omitempty"`
}

// requests returns the request for each kind.
func (p *profiler) requests() ([]wire.ProfileRequest, error) {
	var all []wire.ProfileRequest
	for _, kind := range p.kinds {
		q := wire.ProfileRequest{Kind: kind}
		if wire.ProfileTakesTime(kind) {
			q.Seconds = p.seconds
		}
		if err := q.Check(); err != nil {
			return nil, err
		}
		if slices.Contains(all, q) {
			return nil, fmt.Errorf("--kinds names %s twice", kind)
		}
		all = append(all, q)
	}
	if len(all) == 0 {
		return nil, errors.New("--kinds names no kind of profile")
	}
	return all, nil
}

func (p *profiler) run(c *cli.Call) error {
	requests, err := p.requests()
	if err != nil {
		return err
	}
	status, err := c.Cluster(c.Ctx)
	if err != nil {
		return err
	}
	nodes, err := profiledNodes(&status, c.Args)
	if err != nil {
		return err
	}
	if p.folder == "" {
		p.folder = "profiles-" + time.Now().UTC().Format("20060102T150405Z")
	}
	if err := os.Mkdir(p.folder, 0o700); err != nil {
		return fmt.Errorf("create the folder for the profiles: %w (name another one with --out)", err)
	}
	results := p.collect(c, nodes, requests)
	if err := c.Ctx.Err(); err != nil {
		return fmt.Errorf("stopped: %s has only some of the profiles", p.folder)
	}
	failed := 0
	for i := range results {
		if results[i].Error != "" {
			failed++
		}
	}
	rows := render.Rows(render.Row{"NODE", "ID", "KIND", "SIZE", "FILE"}, results, func(r *profileResult) render.Row {
		if r.Error != "" {
			return render.Row{r.Role, render.ID(render.Plain(r.ID)), r.Kind, "-", render.Plain(r.Error)}
		}
		return render.Row{r.Role, render.ID(render.Plain(r.ID)), r.Kind, render.Bytes(r.Bytes), r.File}
	})
	if err := cli.PrintList(c, results, render.Table(rows...)); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d profiles were not taken", failed, len(results))
	}
	return nil
}

// collect takes the profiles, of all nodes at the same time, and one of a node after the other.
func (p *profiler) collect(c *cli.Call, nodes []profiledNode, requests []wire.ProfileRequest) []profileResult {
	patience := profileSpare
	for _, q := range requests {
		patience += time.Duration(q.Seconds*len(nodes)) * time.Second
	}
	ctx, cancel := context.WithTimeout(c.Ctx, patience)
	defer cancel()
	results := make([]profileResult, len(nodes)*len(requests))
	bar := render.NewBar(c.Cmd.ErrOrStderr(), "profile", "profiles")
	defer bar.Done()
	var progress sync.Mutex
	done := 0
	var running sync.WaitGroup
	for i, n := range nodes {
		running.Go(func() {
			for j, q := range requests {
				r := &results[i*len(requests)+j]
				*r = profileResult{Role: n.role, ID: n.id, URL: n.url, Kind: q.Kind}
				q.Node = n.id
				if err := p.take(ctx, c, q, r); err != nil {
					r.Error = err.Error()
				}
				progress.Lock()
				done++
				bar.Set(int64(done), int64(len(results)))
				progress.Unlock()
			}
		})
	}
	running.Wait()
	return results
}

// take takes one profile and writes it to a file.
func (p *profiler) take(ctx context.Context, c *cli.Call, q wire.ProfileRequest, r *profileResult) error {
	for {
		data, err := c.Profile(ctx, q)
		if err == nil {
			r.File, r.Bytes = filepath.Join(p.folder, fileName(r)), len(data)
			return writeNew(r.File, data)
		}
		if !errors.Is(err, wire.ErrProfiling) {
			return err
		}
		select {
		case <-time.After(profileRetry):
		case <-ctx.Done():
			return err
		}
	}
}

// fileName returns the name of the file of a profile. Ids come from the cluster, so only letters and digits of them are
// used.
func fileName(r *profileResult) string {
	id := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' {
			return c
		}
		return '_'
	}, r.ID)
	return r.Role + "-" + id[:min(len(id), 64)] + "-" + r.Kind + ".pb.gz"
}

// writeNew writes a file that must not exist.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// profiledNodes returns the nodes of the cluster with these ids or URLs, each once, or all nodes if names is empty.
func profiledNodes(status *wire.Cluster, names []string) ([]profiledNode, error) {
	var all []profiledNode
	for i := range status.Masters {
		all = append(all, profiledNode{"master", status.Masters[i].ID, status.Masters[i].URL})
	}
	for i := range status.Storages {
		all = append(all, profiledNode{"storage", status.Storages[i].ID, status.Storages[i].URL})
	}
	for i := range status.Miners {
		all = append(all, profiledNode{"miner", status.Miners[i].ID, status.Miners[i].URL})
	}
	if len(names) == 0 {
		return all, nil
	}
	var chosen []profiledNode
	for _, name := range names {
		at := slices.IndexFunc(all, func(n profiledNode) bool {
			return n.id == name || n.url == strings.TrimRight(name, "/")
		})
		if at < 0 {
			return nil, fmt.Errorf("%q is neither the id nor the URL of a node; 'chainstore status' lists them", name)
		}
		if !slices.Contains(chosen, all[at]) {
			chosen = append(chosen, all[at])
		}
	}
	return chosen, nil
}
