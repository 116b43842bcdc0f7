// Package nodes has the commands that run the nodes of a cluster: dev, master, storage and miner.
package nodes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/internal/roles"
)

// processFlags holds the flags of every role that concern its process and not the role's configuration.
type processFlags struct {
	clusterTokenFile    string
	logLevel, logFormat string
	pprof               string
}

// runnable is a role that has opened its ports and folders.
type runnable interface {
	Run(ctx context.Context) error
}

// newRoleCommand makes cmd run a role with its configuration and flags until a signal ends the command. The name of cmd
// is the role's.
func newRoleCommand(
	cmd *cobra.Command, cfg *roles.NodeConfig, flags []roles.Flag, open func() (runnable, error),
) *cobra.Command {
	var process processFlags
	process.add(cmd.Flags())
	bindFlags(cmd.Flags(), flags)
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := process.prepare(cmd.Name(), cfg); err != nil {
			return err
		}
		role, err := open()
		if err != nil {
			return err
		}
		if err := role.Run(cmd.Context()); err != nil {
			cfg.Logger.Error("stopped", "error", err)
			return errors.New("the role stopped: " + err.Error())
		}
		cfg.Logger.Info("stopped")
		return nil
	}
	return cmd
}

func (f *processFlags) add(flags *pflag.FlagSet) {
	cli.AddClusterToken(flags, &f.clusterTokenFile)
	flags.StringVar(&f.logLevel, "log-level", "info", "trace, debug, info, warn or error")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.StringVar(&f.pprof, "pprof", "", "loopback `address` to serve Go profiles on (default: none)")
}

// prepare serves profiles, and sets the logger and the cluster token of the role.
func (f *processFlags) prepare(kind string, cfg *roles.NodeConfig) (err error) {
	level := hclog.LevelFromString(f.logLevel)
	if level == hclog.NoLevel {
		return fmt.Errorf("--log-level %q is not one of trace, debug, info, warn and error", f.logLevel)
	}
	if f.logFormat != "text" && f.logFormat != "json" {
		return fmt.Errorf("--log-format %q is neither text nor json", f.logFormat)
	}
	if err := serveProfiles(f.pprof); err != nil {
		return err
	}
	cfg.Logger = hclog.New(&hclog.LoggerOptions{
		Name: kind, Level: level, JSONFormat: f.logFormat == "json", Output: os.Stderr,
	})
	if cfg.SecretFiles.Cluster = f.clusterTokenFile; f.clusterTokenFile != "" {
		return nil
	}
	cfg.ClusterToken, err = cli.ReadNodeSecret("cluster token", "", cli.EnvClusterToken, cfg.Data, cfg.Logger.Warn)
	return err
}

// bindFlags adds a role's flags to a command. The current values of the fields are the defaults.
func bindFlags(set *pflag.FlagSet, flags []roles.Flag) {
	for _, f := range flags {
		switch v := f.Value.(type) {
		case *bool:
			set.BoolVar(v, f.Name, *v, f.Usage)
		case *string:
			set.StringVar(v, f.Name, *v, f.Usage)
		case *int:
			set.IntVar(v, f.Name, *v, f.Usage)
		case *int64:
			set.Int64Var(v, f.Name, *v, f.Usage)
		case *uint8:
			set.Uint8Var(v, f.Name, *v, f.Usage)
		case *uint32:
			set.Uint32Var(v, f.Name, *v, f.Usage)
		case *uint64:
			set.Uint64Var(v, f.Name, *v, f.Usage)
		case *time.Duration:
			set.DurationVar(v, f.Name, *v, f.Usage)
		case *[]string:
			if f.Repeat {
				set.StringArrayVar(v, f.Name, *v, f.Usage)
			} else {
				set.StringSliceVar(v, f.Name, *v, f.Usage)
			}
		case pflag.Value:
			set.Var(v, f.Name, f.Usage)
		default:
			panic(fmt.Sprintf("flag --%s has a value of type %T", f.Name, v))
		}
	}
}
