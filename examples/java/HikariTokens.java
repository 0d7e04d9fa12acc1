// Not run by the tests. HikariCP >= 6: credentials are asked for each new connection; overriding getPassword()
// no longer works since 6.0. Needs com.zaxxer:HikariCP, software.amazon.awssdk:rds and org.postgresql:postgresql.
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import com.zaxxer.hikari.util.Credentials;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.rds.RdsUtilities;

public final class HikariTokens extends HikariDataSource {
  private static final String HOST = System.getenv("DB_HOST"), USER = System.getenv("DB_USER");
  private static final int PORT = Integer.parseInt(System.getenv("DB_PORT"));
  // Static: the pool asks for credentials before a field of this object would be set.
  private static final RdsUtilities RDS =
      RdsUtilities.builder().region(Region.of(System.getenv("DB_REGION"))).build();

  private HikariTokens(HikariConfig config) {
    super(config);
  }

  @Override
  public Credentials getCredentials() {
    return Credentials.of(USER, RDS.generateAuthenticationToken(r -> r.hostname(HOST).port(PORT).username(USER)));
  }

  public static void main(String[] arguments) throws Exception {
    var config = new HikariConfig();
    config.setJdbcUrl("jdbc:postgresql://" + HOST + ":" + PORT + "/" + System.getenv("DB_NAME"));
    config.addDataSourceProperty("sslmode", "verify-full");
    config.addDataSourceProperty("sslrootcert", System.getenv("DB_CA"));
    try (var pool = new HikariTokens(config); var connection = pool.getConnection();
        var rows = connection.createStatement().executeQuery("SELECT current_user")) {
      rows.next();
      System.out.println(rows.getString(1));
    }
  }
}
