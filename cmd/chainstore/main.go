// Command chainstore runs the nodes of a ChainStore cluster and is its command-line client.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/admin"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/inspect"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/nodes"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/offline"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/records"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/heap"
)

// garbage takes the place of GOGC. It lets the heap grow to four times the live data while those are small, because
// frequent collections cost more than the memory. With the load of batches in docs/performance.md, 64 MiB of
// garbage cost a tenth more processor time than 96 MiB, and more than 96 MiB saved none.
var garbage = heap.Policy{Most: 300, Least: 50, Garbage: 96 << 20}

// idle makes a process give back the memory that it used under load within ten seconds after the load has ended.
var idle = heap.Idle{Every: 5 * time.Second, Allocated: 16 << 20, Reclaimable: 16 << 20}

// memoryPart is the part of the container's memory limit up to which the heap may grow before it is collected in any
// case. The rest is for what the Go runtime does not count.
const memoryPart = 0.9

func main() {
	if os.Getenv("GOGC") == "" {
		garbage.Apply()
	}
	limitMemory(memlimit.FromCgroup)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal stops the command cleanly. A second one ends the process at once.
	context.AfterFunc(ctx, stop)
	var releasing sync.WaitGroup
	releasing.Go(func() { idle.Release(ctx) })
	err := newRootCommand().ExecuteContext(ctx)
	stop()
	releasing.Wait()
	if err != nil {
		fmt.Fprintf(os.Stderr, "chainstore: %v\n", err)
		os.Exit(cli.ExitStatus(err))
	}
}

// limitMemory takes the limit of the heap from that of the container. It does nothing if GOMEMLIMIT is set, or if the
// container has no limit.
func limitMemory(container memlimit.Provider) {
	_, _ = memlimit.SetGoMemLimitWithOpts(memlimit.WithRatio(memoryPart), memlimit.WithProvider(container))
}

// The groups of commands in the help.
const (
	groupUse     = "use"
	groupRun     = "run"
	groupInspect = "inspect"
)

// newRootCommand returns the whole command line. Commands return their errors; main prints them.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "chainstore",
		Short: "A tamper-evident, replicated, append-only record store",
		Long: `ChainStore keeps records in a replicated, append-only chain of blocks in which every changed byte is
detected.

To try it, start a whole cluster on this machine. Then append and read in another terminal in the same folder:

  chainstore dev
  echo hello | chainstore append --wait
  chainstore tail
  chainstore status

Commands that use a cluster find it by --cluster DIR/cluster.json; by --masters and --token-file; by
CHAINSTORE_MASTERS and CHAINSTORE_TOKEN; or, with none of these, by ` + cli.DefaultClusterFile() + `.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       programBuild().String(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w (see '%s --help')", err, cmd.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: groupUse, Title: "Append and read:"},
		&cobra.Group{ID: groupInspect, Title: "Inspect and check:"},
		&cobra.Group{ID: groupRun, Title: "Run nodes:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupUse, records.NewAppend(), records.NewGet(), records.NewReceipt(), records.NewList(), records.NewTail(),
		records.NewStream(), admin.NewProject(), admin.NewAdminToken(), admin.NewSecret(), admin.NewTLS(),
		records.NewAudit())
	add(groupInspect, inspect.NewStatus(), with(inspect.NewIntegrity(), admin.NewConfirmLost()), inspect.NewCheck(),
		inspect.NewBlocks(), inspect.NewProfile(), offline.NewVerify(), with(admin.NewLog(), offline.NewLogBackup()))
	add(groupRun, nodes.NewDev(),
		with(nodes.NewMaster(), admin.NewMasterRemove(), admin.NewMasterTransfer(), admin.NewMasterSettings(),
			admin.NewMasterTicket(), admin.NewMasterSetTime(),
			offline.NewMasterRecover(), offline.NewMasterLogToDatabase()),
		with(with(nodes.NewStorage(), admin.NewStorageRemove()), admin.NewWaiting("storage", "storage node")...),
		with(with(nodes.NewMiner(), admin.NewMinerRemove()), admin.NewWaiting("miner", "miner")...),
		offline.NewExport(), offline.NewImport(), offline.NewAtRest(), offline.NewCA())
	root.AddCommand(newVersionCommand())
	render.ShapeHelp(root)
	return root
}

// with adds commands below another one.
func with(parent *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	parent.AddCommand(commands...)
	return parent
}
