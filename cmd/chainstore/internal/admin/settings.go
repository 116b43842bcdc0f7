package admin

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/wire"
)

// NewMasterSettings changes settings of the group.
func NewMasterSettings() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "settings [NAME=VALUE...]",
		Short: "Show or change settings of the group",
		Long: `Change settings that all masters share, and show all of them. Without arguments it only shows them.
A name is that of the master's flag:
max-records, max-bytes, max-pending-bytes, retain-bytes, difficulty, replicas, max-keys, key-age, witness-quorum or
approve-workers. The last is true or false, and needs the role admin.
The change holds until the next one, whatever flags the masters are started with. The integrity log records it.
The command needs the admin token. The status shows the settings without it, with --json.`,
		Args: cobra.ArbitraryArgs,
		Example: "  chainstore master settings\n  chainstore master settings replicas=3\n" +
			"  chainstore master settings max-keys=100000 key-age=5m",
	}, cli.Use{Role: cli.AsAdmin}, func(c *cli.Call) error {
		if len(c.Args) == 0 {
			status, err := c.Cluster(c.Ctx)
			if err != nil {
				return err
			}
			return printSettings(c.Out, &status.Settings)
		}
		var change wire.SettingsChange
		for _, arg := range c.Args {
			if err := setSetting(&change, arg); err != nil {
				return err
			}
		}
		changed, err := c.ChangeSettings(c.Ctx, change)
		if err != nil {
			return err
		}
		return printSettings(c.Out, &changed)
	})
}

// setSetting adds a setting of the form NAME=VALUE to a change.
func setSetting(change *wire.SettingsChange, arg string) (err error) {
	name, value, ok := strings.Cut(arg, "=")
	if !ok {
		return fmt.Errorf("%q is not of the form NAME=VALUE, such as replicas=3", arg)
	}
	switch name {
	case "max-records":
		change.MaxRecords, err = number[uint32](value, 32)
	case "max-bytes":
		change.MaxBytes, err = number[uint32](value, 32)
	case "max-pending-bytes":
		change.MaxPendingBytes, err = number[uint64](value, 64)
	case "retain-bytes":
		change.RetainBytes, err = number[uint64](value, 64)
	case "difficulty":
		change.Difficulty, err = number[uint8](value, 8)
	case "replicas":
		change.Replicas, err = number[uint8](value, 8)
	case "max-keys":
		change.MaxKeys, err = number[uint32](value, 32)
	case "key-age":
		var age time.Duration
		if age, err = time.ParseDuration(value); err == nil && age < 0 {
			return fmt.Errorf("key-age %q is negative", value)
		}
		change.KeyAge = new(uint64(age / time.Millisecond))
	case "witness-quorum":
		change.WitnessQuorum, err = number[uint8](value, 8)
	case "approve-workers":
		if value != "true" && value != "false" {
			return fmt.Errorf("setting approve-workers: %q is neither true nor false", value)
		}
		change.ApproveWorkers = new(value == "true")
	default:
		return fmt.Errorf("%q is not a setting of the group: see chainstore master settings --help", name)
	}
	if err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	return nil
}

func number[T uint8 | uint32 | uint64](text string, bits int) (*T, error) {
	n, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return nil, fmt.Errorf("%q is not a whole number from 0 to %d", text, uint64(1)<<bits-1)
	}
	return new(T(n)), nil
}

func printSettings(w io.Writer, s *wire.Settings) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name string, value any) { _, _ = fmt.Fprintf(table, "%s\t%v\n", name, value) }
	line("max-records", s.MaxRecords)
	line("max-bytes", s.MaxBytes)
	line("max-pending-bytes", s.MaxPendingBytes)
	line("retain-bytes", s.RetainBytes)
	line("difficulty", s.Difficulty)
	line("replicas", s.Replicas)
	line("max-keys", s.MaxKeys)
	line("key-age", time.Duration(s.KeyAge)*time.Millisecond)
	line("witness-quorum", s.WitnessQuorum)
	line("approve-workers", s.ApproveWorkers)
	return table.Flush()
}
