// Not run by the tests. pgx: BeforeConnect is called for each new connection of the pool.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/rds/auth"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	ctx := context.Background()
	host, port, region, user := os.Getenv("DB_HOST"), os.Getenv("DB_PORT"), os.Getenv("DB_REGION"), os.Getenv("DB_USER")
	aws, err := config.LoadDefaultConfig(ctx, config.WithRegion(region))
	check(err)
	pools, err := pgxpool.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=verify-full sslrootcert=%s",
		host, port, user, os.Getenv("DB_NAME"), os.Getenv("DB_CA")))
	check(err)
	pools.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) (err error) {
		c.Password, err = auth.BuildAuthToken(ctx, host+":"+port, region, user, aws.Credentials)
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, pools)
	check(err)
	defer pool.Close()
	var name string
	check(pool.QueryRow(ctx, "SELECT current_user").Scan(&name))
	fmt.Println(name)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
