// Command bench measures a ChainStore cluster of real processes, and next to it what its parts can reach at most.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/chainstore/chainstore/bench/suite"
	"github.com/chainstore/chainstore/internal/durable"
)

const long = `Start a cluster of seven processes on loopback, as chainstore dev --processes does, and measure appends,
batches and reads. Measure in the same run and under the same load a bare gin handler, a bare group of three
raft members and, where they are installed, three etcd members and an immudb server. Print the medians and the
spread of the runs: rates, latencies, the processor time per record of each process, and its peak memory. Print
ratios, a table of the project's targets, and the memory and disk space of the processes.

Checks and repairs of storage nodes are measured without a cluster, next to the bare hash and a bare HTTP copy
of the same bytes. Appends and reads are measured with and without checks in the background, and with and
without TLS, on two clusters in turn. At the end the whole chain of every storage node is verified.

Run nothing else on the machine meanwhile. The scenarios: `

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks the command to end in good order. A second one ends the process at once.
	context.AfterFunc(ctx, stop)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var cfg suite.Config
	var asJSON bool
	var outFile, serve string
	var tick time.Duration
	cmd := &cobra.Command{
		Use:           "bench",
		Short:         "Measure a cluster of real processes next to what its parts can reach",
		Long:          long + strings.Join(suite.Names(), ", ") + ".",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if serve != "" {
				return suite.ServeCeiling(cmd.Context(), serve, tick)
			}
			if term.IsTerminal(int(os.Stderr.Fd())) {
				cfg.Progress = func(line string, last bool) { progressLine(os.Stderr, line, last) }
			}
			report, err := suite.Run(cmd.Context(), cfg)
			if report == nil {
				return err
			}
			return errors.Join(err, write(cmd.OutOrStdout(), report, asJSON, outFile))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Program, "chainstore", "./chainstore", "the chainstore `program` to measure")
	flags.StringVar(&cfg.Immudb, "immudb", "immudb", "the immudb server `program` to measure, if there is one")
	flags.IntVar(&cfg.Runs, "runs", 5, "`number` of runs of each scenario")
	flags.DurationVar(&cfg.Duration, "duration", 5*time.Second, "how `long` each run is")
	flags.DurationVar(&cfg.Warmup, "warmup", 2*time.Second, "how `long` each scenario warms up")
	flags.IntVar(&cfg.ReadRecords, "read-records", 1_000_000,
		"`records` that are read; the chain has at least as many when reads begin, and etcd and immudb as many keys")
	flags.IntVar(&cfg.ChainMiB, "chain-mib", 256,
		"`MiB` of records of 1 KiB in the chain that is checked and repaired; for memory, a quarter of it and twice "+
			"as much")
	flags.StringSliceVar(&cfg.Only, "only", nil,
		"`scenarios` to measure, by name or by its beginning (append, read-64, etcd)")
	flags.StringVar(&cfg.Dir, "data", "bench-data",
		"`folder` in which a folder for the data is made, and removed at the end")
	flags.BoolVar(&cfg.Keep, "keep", false, "do not remove the data at the end")
	flags.IntVar(&cfg.Port, "port", 18000, "base `port` of the cluster")
	flags.StringVar(&cfg.Profiles, "profiles", "",
		"put CPU profiles of all processes, taken in the last runs, into a `folder`")
	flags.BoolVar(&asJSON, "json", false, "print the report as JSON")
	flags.StringVar(&outFile, "out", "", "write the report as JSON to a `file` as well")
	flags.StringVar(&serve, "serve-ceiling", "", "serve the bare gin handler and write its address to a `file`")
	flags.DurationVar(&tick, "ceiling-tick", 0, "with --serve-ceiling: the `time` between two answers")
	for _, hidden := range []string{"serve-ceiling", "ceiling-tick"} {
		flags.Lookup(hidden).Hidden = true
	}
	return cmd
}

// write prints the report for people or as JSON, and puts the JSON form into outFile too unless that is "".
func write(out io.Writer, report *suite.Report, asJSON bool, outFile string) error {
	encoded, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	encoded = append(encoded, '\n')
	if outFile != "" {
		err = durable.WriteFile(outFile, encoded, 0o644)
	}
	if asJSON {
		_, writeErr := out.Write(encoded)
		return errors.Join(err, writeErr)
	}
	return errors.Join(err, report.Print(out))
}

// progressLine shows the current step on a terminal, one line for each scenario.
func progressLine(w io.Writer, line string, last bool) {
	end := ""
	if last {
		end = "\n"
	}
	fmt.Fprintf(w, "\r\x1b[K%s%s", line, end)
}
