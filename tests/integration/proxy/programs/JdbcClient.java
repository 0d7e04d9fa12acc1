import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/**
 * A JDBC driver as an application or DBeaver uses it: prepared statements, a transaction, a fetched result, a cancelled
 * query. Arguments: the JDBC URL, as the proxy prints it, and the password if one is asked for.
 */
class JdbcClient {
    private static String url;
    private static String password;

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        password = arguments.length > 1 ? arguments[1] : null;
        boolean postgres = url.startsWith("jdbc:postgresql:");
        String user = postgres ? "SELECT session_user" : "SELECT substring_index(user(), '@', 1)";
        try (Connection connection = open()) {
            say("user", value(connection, user));
            say("prepared", prepared(connection, postgres));
            say("transaction", transaction(connection));
            say("large", large(connection));
            say("error", error(connection, postgres));
            say("cancelled", cancelled(connection, postgres));
            say("after", value(connection, user));
        }
        try (Connection connection = open()) {
            say("again", value(connection, user));
            say("valid", connection.isValid(5));
        }
    }

    private static Connection open() throws SQLException {
        return password == null ? DriverManager.getConnection(url) : DriverManager.getConnection(url, null, password);
    }

    private static void say(String name, Object value) {
        System.out.println(name + "=" + value);
    }

    private static String value(Connection connection, String query) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet result = statement.executeQuery(query)) {
            result.next();
            return result.getString(1);
        }
    }

    private static String prepared(Connection connection, boolean postgres) throws SQLException {
        String query = postgres ? "SELECT ?::int, ?::text, ?::text"
            : "SELECT CAST(? AS SIGNED), CAST(? AS CHAR), CAST(? AS CHAR)";
        String answer = "";
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            for (int time = 0; time < 7; time++) { // pgjdbc prepares on the server from the fifth time on
                statement.setInt(1, 1);
                statement.setString(2, "ä");
                statement.setString(3, null);
                try (ResultSet result = statement.executeQuery()) {
                    result.next();
                    answer = result.getInt(1) + "," + result.getString(2) + "," + result.getString(3);
                }
            }
        }
        return answer;
    }

    private static String transaction(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("CREATE TEMPORARY TABLE t (i int)");
            connection.setAutoCommit(false);
            statement.execute("INSERT INTO t VALUES (1)");
            connection.rollback();
            String before = value(connection, "SELECT count(*) FROM t");
            statement.addBatch("INSERT INTO t VALUES (1)");
            statement.addBatch("INSERT INTO t VALUES (2)");
            statement.executeBatch();
            connection.commit();
            connection.setAutoCommit(true);
            return before + "," + value(connection, "SELECT count(*) FROM t");
        }
    }

    private static String large(Connection connection) throws SQLException {
        connection.setAutoCommit(false); // for pgjdbc to fetch by portions
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(1000);
            int rows = 0;
            long length = 0;
            try (ResultSet result = statement.executeQuery("SELECT i, t FROM big ORDER BY i")) {
                while (result.next()) {
                    rows++;
                    length += result.getString(2).length();
                }
            }
            return rows + "," + length;
        } finally {
            connection.commit();
            connection.setAutoCommit(true);
        }
    }

    private static String error(Connection connection, boolean postgres) {
        try {
            value(connection, "SELECT * FROM nowhere");
            return "none";
        } catch (SQLException error) {
            return postgres ? error.getSQLState() : String.valueOf(error.getErrorCode());
        }
    }

    private static String cancelled(Connection connection, boolean postgres) throws Exception {
        try (Statement statement = connection.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    Thread.sleep(400);
                    statement.cancel();
                } catch (InterruptedException | SQLException error) {
                    error.printStackTrace();
                }
            });
            canceller.start();
            try {
                statement.executeQuery(postgres ? "SELECT pg_sleep(60)" : "SELECT i FROM big WHERE SLEEP(60)");
                return "none";
            } catch (SQLException error) {
                return postgres ? error.getSQLState() : String.valueOf(error.getErrorCode());
            } finally {
                canceller.join();
            }
        }
    }
}
