-- Names and owners that are hard. Each section is run by the role in its heading.
-- as boss
CREATE SCHEMA private;
CREATE TABLE private.card (id int);
CREATE SCHEMA "we""ird %s {} 'q' schema";
CREATE SCHEMA "select";
CREATE SCHEMA "Ünïcode";
CREATE SCHEMA "pgx_not_system";
CREATE SCHEMA "rds_tools";
CREATE SCHEMA "temp";
CREATE SCHEMA "a_schema_whose_name_is_as_long_as_postgresql_allows_63_bytes_xx";
CREATE TABLE "we""ird %s {} 'q' schema"."ta""ble %(x)s" ("co""l" int);
CREATE TYPE "we""ird %s {} 'q' schema"."ty""pe {}" AS ENUM ('a');
CREATE FUNCTION "we""ird %s {} 'q' schema"."fun(c""tion, int)"("arg %s" "we""ird %s {} 'q' schema"."ty""pe {}", int[])
    RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA "we""ird %s {} 'q' schema" FROM PUBLIC;
CREATE TABLE "select"."from" ("where" int PRIMARY KEY, "order" text);
CREATE TABLE "Ünïcode"."tabelle mit
zeilenumbruch" (id serial);
CREATE TABLE "pgx_not_system".t (id int);
CREATE TABLE "rds_tools".t (id int);
CREATE TABLE "temp".t ();
CREATE TABLE "a_schema_whose_name_is_as_long_as_postgresql_allows_63_bytes_xx"."a_table_whose_name_is_as_long_as_postgresql_allows_63_bytes_xxx" (id int);
CREATE TABLE public.parent (id int);
CREATE TABLE public.child (more text) INHERITS (parent);
CREATE SEQUENCE public."Seq with space";
CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE ROLE "Odd Owner; --" LOGIN PASSWORD 'Odd-1';
GRANT "Odd Owner; --" TO boss;
CREATE SCHEMA odd_owned AUTHORIZATION "Odd Owner; --";
SET ROLE "Odd Owner; --";
CREATE TABLE odd_owned.t (id serial);
CREATE MATERIALIZED VIEW odd_owned.mv AS SELECT 1 AS x WITH NO DATA;
RESET ROLE;
REVOKE "Odd Owner; --" FROM boss;
ALTER ROLE boss IN DATABASE odd SET search_path TO "select", public;
-- as rdsadmin
CREATE TABLE public.of_rdsadmin (id int);
CREATE SCHEMA of_rdsadmin;
CREATE TABLE of_rdsadmin.t (id int);
CREATE ROLE nobodys LOGIN;
CREATE SCHEMA nobodys AUTHORIZATION nobodys;
SET ROLE nobodys;
CREATE TABLE nobodys.t (id int);
