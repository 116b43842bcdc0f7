package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/internal/devcluster/bench"
	"github.com/chainstore/chainstore/internal/durable"
)

// newBenchCommand measures a cluster of real processes beside what its parts can do at most.
func newBenchCommand() *cobra.Command {
	var cfg bench.Config
	var asJSON bool
	var outFile, serve string
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a cluster of real processes, and beside it what its parts can do at most",
		Long: `Start seven processes on loopback, as dev --processes does, and measure appends, batches and reads; beside it, in the same run
and under the same load, a bare gin handler, a bare three-node raft and, where etcd is installed, a three-node etcd. Prints rates,
latencies, ratios, and the memory and disk of the processes. Checks and repairs of storage nodes are measured by themselves, against
the bare hash and a bare HTTP copy of the same bytes, and appends and reads with checks going on against the same without. At the end every storage node's whole chain is verified.

Nothing else should be at work on the machine meanwhile. The scenarios: ` + strings.Join(bench.Names(), ", ") + `.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if serve != "" {
				return bench.ServeCeiling(cmd.Context(), serve)
			}
			if cfg.Executable, err = os.Executable(); err != nil {
				return err
			}
			if w := cmd.ErrOrStderr(); isTerminal(w) {
				cfg.Progress = func(line string, last bool) { progressLine(w, line, last) }
			}
			report, err := bench.Run(cmd.Context(), cfg)
			if report == nil {
				return err
			}
			encoded, jsonErr := json.MarshalIndent(report, "", "  ")
			encoded = append(encoded, '\n')
			if outFile != "" && jsonErr == nil {
				jsonErr = durable.WriteFile(outFile, encoded, 0o644)
			}
			err = errors.Join(err, jsonErr)
			if asJSON {
				_, writeErr := cmd.OutOrStdout().Write(encoded)
				return errors.Join(err, writeErr)
			}
			return errors.Join(report.Print(cmd.OutOrStdout()), err)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Runs, "runs", 3, "`number` of runs of each scenario")
	flags.DurationVar(&cfg.Duration, "duration", 5*time.Second, "how `long` each run is")
	flags.DurationVar(&cfg.Warmup, "warmup", 2*time.Second, "how `long` each scenario warms up")
	flags.IntVar(&cfg.ReadRecords, "read-records", 400_000, "`records` that the chain has at least when reads begin")
	flags.IntVar(&cfg.ChainMiB, "chain-mib", 256, "`MiB` of records of 1 KiB in the chain that is checked and repaired; for memory, a quarter of it and twice as much")
	flags.StringSliceVar(&cfg.Only, "only", nil, "`scenarios` to measure, by name or by its beginning (append, read-64, etcd)")
	flags.StringVar(&cfg.Dir, "data", "bench-data", "`folder` in which a folder for the data is made, and removed at the end")
	flags.BoolVar(&cfg.Keep, "keep", false, "do not remove the data at the end")
	flags.IntVar(&cfg.Port, "port", 18000, "base `port` of the cluster")
	flags.StringVar(&cfg.Profiles, "profiles", "", "put CPU profiles of all processes, taken in the last runs, into a `folder`")
	flags.BoolVar(&asJSON, "json", false, "print the report as JSON")
	flags.StringVar(&outFile, "out", "", "write the report as JSON to a `file` as well")
	flags.StringVar(&serve, "serve-ceiling", "", "serve the bare gin handler and write its address to a `file`")
	flags.Lookup("serve-ceiling").Hidden = true
	return cmd
}

// progressLine shows on a terminal what is being done, one line a scenario.
func progressLine(w io.Writer, line string, last bool) {
	end := ""
	if last {
		end = "\n"
	}
	fmt.Fprintf(w, "\r\x1b[K%s%s", line, end)
}
